/** Header: the one line at the top, with what runs, how far it is, and buttons for it. */

import { duration, growing, number, progress, segments } from "../format.ts";
import type { RunModel } from "../model.ts";
import { isFailure, isTerminal, P, phaseWord, SEGMENTS, type SegmentWord } from "../phases.ts";
import { Bar } from "./bar.ts";
import { h, setAttr, setText, show } from "./dom.ts";
import { icon, phaseIcon } from "./icons.ts";
import { putBelow } from "./popover.ts";

export interface HeaderHost {
  toggle(): void;
  command(op: string, args?: Record<string, unknown>): void;
  filter(word: SegmentWord): void;
  compare(): void;
  menu(): { label: string; run(): void }[];
}

export class HeaderView {
  readonly el: HTMLElement;
  private readonly toggle: HTMLButtonElement;
  private readonly state = h("span", { class: "fnb-state" });
  private readonly run = h("span", { class: "fnb-run" });
  private readonly prompt = h("span", { class: "fnb-prompt-number" });
  private readonly title = h("span", { class: "fnb-title" });
  private readonly chips = h("span", { class: "fnb-chips", role: "group", "aria-label": "Show only" });
  private readonly rate = h("span", { class: "fnb-rate" });
  private readonly time = h("span", { class: "fnb-time" });
  private readonly cancel: HTMLButtonElement;
  private readonly retry: HTMLButtonElement;
  private readonly before: HTMLButtonElement;
  private readonly more: HTMLButtonElement;
  private readonly menu = h("div", { class: "fnb-menu", role: "menu", popover: "auto" });
  private menuOpen = false;
  private readonly bar = new Bar("fnb-bar-thin");
  private readonly chipByWord = new Map<string, HTMLButtonElement>();
  private shownPhase = -1;
  private cancelling = false;

  constructor(private readonly host: HeaderHost) {
    this.toggle = h(
      "button",
      { class: "fnb-btn fnb-toggle", type: "button", "data-testid": "fnb-toggle", onclick: () => host.toggle() },
      icon("closed"),
    );
    this.cancel = h(
      "button",
      { class: "fnb-btn fnb-cancel", type: "button", "data-testid": "fnb-cancel", onclick: () => this.onCancel() },
      "Cancel",
    );
    this.retry = h(
      "button",
      {
        class: "fnb-btn",
        type: "button",
        "data-testid": "fnb-retry-failed",
        onclick: () => host.command("retry_failed"),
      },
      "Retry failed",
    );
    this.before = h("button", {
      class: "fnb-btn fnb-before",
      type: "button",
      "data-testid": "fnb-before",
      onclick: () => host.compare(),
    });
    this.more = h(
      "button",
      {
        class: "fnb-btn fnb-more",
        type: "button",
        "aria-haspopup": "menu",
        "aria-label": "More",
        "data-testid": "fnb-menu",
        onclick: () => this.openMenu(),
      },
      icon("menu"),
    );
    this.menu.addEventListener("keydown", (event) => this.onMenuKey(event));
    this.menu.addEventListener("toggle", (event) => {
      if ((event as ToggleEvent).newState === "closed") this.menuOpen = false;
    });
    this.el = h(
      "div",
      { class: "fnb-head" },
      h(
        "div",
        { class: "fnb-line" },
        this.toggle,
        this.state,
        this.run,
        this.prompt,
        this.title,
        this.chips,
        this.rate,
        this.time,
        this.before,
        this.retry,
        this.cancel,
        this.more,
        this.menu,
      ),
      this.bar.el,
    );
  }

  private onCancel(): void {
    if (this.cancelling) return;
    this.cancelling = true;
    // Not `disabled`: that would throw the focus out of the view.
    this.cancel.setAttribute("aria-disabled", "true");
    setText(this.cancel, "Cancelling…");
    this.host.command("cancel_run");
  }

  cancelFailed(): void {
    this.cancelling = false;
  }

  draw(model: RunModel, open: boolean, active: ReadonlySet<string>): void {
    const header = model.header;
    if (!header) return;
    const gone = model.lost && !isTerminal(header.phase);
    const phase = gone ? P.ABANDONED : model.running && allPaused(header.counts) ? P.PAUSED : header.phase;
    if (phase !== this.shownPhase) {
      this.shownPhase = phase;
      this.state.className = `fnb-state fnb-c-${phase}`;
      this.state.replaceChildren(
        phaseIcon(phase),
        h("span", { class: "fnb-word" }, gone ? "Kernel gone" : capital(phaseWord(phase))),
      );
    }
    setText(this.run, header.run);
    const only = header.total === 1 ? onlyRow(model) : undefined;
    setText(this.title, only?.label ?? header.title);
    setAttr(this.title, "title", header.title);
    setText(this.prompt, header.prompt ? `In [${header.prompt}]` : "");
    show(this.prompt, Boolean(header.prompt));
    setAttr(this.toggle, "aria-expanded", String(open));
    setAttr(this.toggle, "aria-label", `${open ? "Fold" : "Unfold"} run ${header.run}`);
    this.drawChips(header.counts, header.total, active);
    const eta = header.eta !== undefined && model.running ? `${duration(header.eta)} left` : "";
    const rate =
      header.rate && !model.lost
        ? `${number(Math.round(header.rate * (header.rate < 10 ? 10 : 1)) / (header.rate < 10 ? 10 : 1))}/s`
        : "";
    const share = header.share !== undefined && model.running ? progress(header.share) : "";
    setText(this.rate, [share, rate, eta].filter(Boolean).join(" · "));
    show(this.rate, Boolean(share || rate || eta));
    this.tick(model);
    const ended = header.ended !== undefined || model.lost;
    const { before } = header;
    show(this.before, ended && Boolean(before) && !model.lost);
    setText(this.before, `vs ${before}`);
    setAttr(
      this.before,
      "title",
      `Compare with ${before}, the run of this cell before: slower, faster, failed, other results`,
    );
    const failed = !model.lost && header.counts.some((n, code) => n > 0 && isFailure(code));
    for (const [button, wanted] of [
      [this.retry, failed],
      [this.cancel, !ended],
    ] as const) {
      // A button that goes away must not throw the focus out of the view.
      if (!wanted && document.activeElement === button) this.toggle.focus({ preventScroll: true });
      show(button, wanted);
    }
    if (ended) this.cancelling = false;
    if (!this.cancelling) {
      this.cancel.removeAttribute("aria-disabled");
      setText(this.cancel, "Cancel");
    }
    show(this.bar.el, header.total > 1);
    this.bar.set(header.counts, header.total, `Progress of run ${header.run}`);
    this.bar.el.classList.toggle("fnb-done", isTerminal(phase));
  }

  /** Only what the clock changes. */
  tick(model: RunModel): void {
    const header = model.header;
    if (header) setText(this.time, model.running ? growing(model.elapsed()) : duration(model.elapsed()));
  }

  private drawChips(counts: number[], total: number, active: ReadonlySet<string>): void {
    show(this.chips, total > 1 || (counts[P.PAUSED] ?? 0) > 0);
    const found = segments(counts);
    for (const { word } of SEGMENTS) {
      const n = found.find((one) => one.word === word)?.n ?? 0;
      let chip = this.chipByWord.get(word);
      if (!chip) {
        if (!n) continue;
        chip = this.makeChip(word);
      }
      show(chip, n > 0 || active.has(word));
      setText(chip.querySelector(".fnb-n") as HTMLElement, number(n));
      setAttr(chip, "aria-pressed", String(active.has(word)));
    }
  }

  private makeChip(word: SegmentWord): HTMLButtonElement {
    const look = SEGMENTS.find((one) => one.word === word)?.look ?? 0;
    const chip = h(
      "button",
      {
        class: `fnb-chip fnb-c-${look}`,
        type: "button",
        "data-word": word,
        title: `Show only ${word} actions`,
        onclick: () => this.host.filter(word),
      },
      phaseIcon(look),
      h("span", { class: "fnb-n" }),
      h("span", { class: "fnb-w" }, ` ${word}`),
    );
    chip.querySelector(".fnb-spin")?.classList.remove("fnb-spin");
    this.chipByWord.set(word, chip);
    const ordered = SEGMENTS.map((one) => this.chipByWord.get(one.word)).filter((one) => one !== undefined);
    this.chips.replaceChildren(...ordered);
    return chip;
  }

  /** The view was moved in the page, which closes an open menu without a word. */
  remounted(): void {
    if (this.menuOpen) this.showMenu();
  }

  private showMenu(): void {
    this.menu.showPopover?.();
    putBelow(this.menu, this.more, (at) => at.right - this.menu.offsetWidth);
  }

  private openMenu(): void {
    const items = this.host.menu().map(({ label, run }) =>
      h(
        "button",
        {
          class: "fnb-menuitem",
          role: "menuitem",
          type: "button",
          tabindex: -1,
          onclick: () => {
            this.menu.hidePopover?.();
            this.more.focus();
            run();
          },
        },
        label,
      ),
    );
    this.menu.replaceChildren(...items);
    this.showMenu();
    this.menuOpen = true;
    items[0]?.focus();
  }

  private onMenuKey(event: KeyboardEvent): void {
    const items = [...this.menu.children] as HTMLElement[];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown") items[(at + 1) % items.length]?.focus();
    else if (event.key === "ArrowUp") items[(at - 1 + items.length) % items.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      this.menu.hidePopover?.();
      this.more.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** Whether nothing goes on before a person has decided. */
const allPaused = (counts: number[]): boolean =>
  Boolean(counts[P.PAUSED]) && counts.every((n, code) => !n || code === P.PAUSED || isTerminal(code));

const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

/** The only action of a quick cell. */
function onlyRow(model: RunModel) {
  // The root of a cell is implied and belongs to no group.
  for (const row of model.rows.values()) if (row.group) return row;
  return undefined;
}
