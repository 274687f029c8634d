/** Log lines: merged or of one action, searched, followed, downloaded. */

import type { VirtualItem } from "@tanstack/virtual-core";
import { parseAnsi, plain } from "../ansi.ts";
import { clockTime, number } from "../format.ts";
import type { LogEntry, RunModel } from "../model.ts";
import type { Log, WireLine } from "../protocol.ts";
import { h, setAttr, setLabel, setText, show } from "./dom.ts";
import { place, VirtualList } from "./list.ts";

/** What is printed to stderr is no failure: progress and warnings go there, too. */
const LOUD: Record<string, string> = { error: "err", critical: "err", warning: "warn", debug: "dim" };
/** Levels of lines, from which one up they are shown; what is printed has none. */
const LEVELS = ["debug", "info", "warning", "error", "critical"];

/** Columns of a line beside its text. */
export interface LogColumns {
  labelled: boolean;
  time: boolean;
  level: boolean;
}

/** Draw one line into `el`: its columns, then its text with colours. */
export function drawLine(
  el: HTMLElement,
  line: WireLine,
  model: RunModel,
  { labelled, time, level }: LogColumns,
  repeated: boolean,
): void {
  const [name, at, stream, text] = line;
  const clock = clockTime((model.header?.epoch ?? 0) + at);
  const parts: Node[] = [];
  if (time) parts.push(h("span", { class: "fnb-logtime" }, clock));
  if (level) parts.push(h("span", { class: "fnb-loglevel" }, LEVELS.includes(stream) ? stream : ""));
  if (labelled) parts.push(drawLabel(name, model.labelOf(name), repeated));
  const body = h("span", { class: `fnb-logtext${LOUD[stream] ? ` fnb-log-${LOUD[stream]}` : ""}` });
  for (const span of parseAnsi(text)) {
    if (!span.classes && !span.color) body.append(span.text);
    else
      body.append(
        h(
          "span",
          {
            class: span.classes.replace(/(\S+)/g, "fnb-a-$1") || null,
            style: span.color ? { color: span.color } : null,
          },
          span.text,
        ),
      );
  }
  parts.push(body);
  el.replaceChildren(...parts);
  el.dataset.action = name;
  setAttr(el, "title", `${clock} ${stream}`);
}

function drawLabel(name: string, label: string, repeated: boolean): HTMLElement {
  const el = h("span", {
    class: `fnb-loglabel fnb-cut${repeated ? " fnb-repeated" : ""}`,
    title: label,
    style: { borderRightColor: `hsl(${hueOf(name)} 55% 55%)` },
  });
  setLabel(el, label || "…");
  return el;
}

/** Have a click on a line open its action; not one that has selected text. */
export function openOnClick(box: HTMLElement, model: () => RunModel | null, open: (id: number) => void): void {
  box.addEventListener("click", (event) => {
    const line = (event.target as Element).closest<HTMLElement>(".fnb-logline[data-action]");
    const [id] = model()?.labels.get(line?.dataset.action ?? "") ?? [];
    if (id !== undefined && !window.getSelection()?.toString()) open(id);
  });
}

/** A colour of its own for each action, from its name, which is a hash. */
const hueOf = (name: string): number => (Number.parseInt(name.slice(0, 6), 16) || name.length * 67) % 360;

/** Text that lines or their labels hold, and the level from which on; "" for any. */
export interface LogQuery {
  text: string;
  level: string;
}

export interface LogHost {
  download(action: string | null): void;
  /** Fetch the merged log that Python keeps, in place of what was streamed. */
  reload(): void;
  /** Search all lines that Python keeps; `found` takes the answer. */
  search(wanted: LogQuery): void;
  openNumber(id: number): void;
}

export class LogView {
  readonly el: HTMLElement;
  private readonly inner = h("div", { class: "fnb-inner" });
  private readonly scroller = h(
    "div",
    {
      class: "fnb-scroll fnb-logscroll",
      tabindex: 0,
      role: "log",
      "aria-label": "Log",
      "aria-live": "off",
      "data-testid": "fnb-log",
    },
    this.inner,
  );
  private readonly search = h("input", {
    class: "fnb-input",
    type: "search",
    placeholder: "Search log",
    "aria-label": "Search log: text, a17, or /regular expression/",
    title: "Text of a line or label; a17; /regular expression/, in the lines shown",
  });
  private readonly level = h(
    "select",
    { class: "fnb-input", "aria-label": "Level", title: "Lines of this level and above", onchange: () => this.ask() },
    ["", ...LEVELS].map((value) => h("option", { value }, value ? `${value}+` : "All levels")),
  );
  private readonly shown = { time: false, level: false };
  private readonly said = h("span", { class: "fnb-muted fnb-logsaid" });
  private readonly follow: HTMLButtonElement;
  private readonly scope: HTMLButtonElement;
  private readonly list: VirtualList;
  private readonly pool = new Map<number, { el: HTMLElement; entry: LogEntry }>();
  private entries: LogEntry[] = [];
  private action: { name: string; label: string; entries: LogEntry[] } | null = null;
  private results: { lines: LogEntry[]; total: number } | null = null;
  private following = true;
  /** A line to bring into view, and the one that was. */
  private sought: WireLine | null = null;
  private marked: WireLine | null = null;
  private serial = -1;

  constructor(
    private readonly model: RunModel,
    private readonly host: LogHost,
  ) {
    this.follow = h(
      "button",
      { class: "fnb-btn", type: "button", "aria-pressed": "true", onclick: () => this.setFollow(!this.following) },
      "Follow",
    );
    this.scope = h("button", {
      class: "fnb-chip",
      type: "button",
      title: "Show the log of all actions",
      hidden: true,
      onclick: () => this.showAll(),
    });
    const download = h(
      "button",
      { class: "fnb-btn", type: "button", onclick: () => host.download(this.action?.name ?? null) },
      "Download",
    );
    const tools = h(
      "div",
      { class: "fnb-tools" },
      this.search,
      this.level,
      this.scope,
      this.said,
      h("span", { class: "fnb-space" }),
      this.column("Time", "time"),
      this.column("Level", "level"),
      this.follow,
      download,
    );
    this.el = h("div", { class: "fnb-logs" }, tools, this.scroller);
    this.search.addEventListener("input", () => this.ask());
    openOnClick(this.inner, () => this.model, host.openNumber);
    this.list = new VirtualList({
      scroller: this.scroller,
      inner: this.inner,
      estimate: () => 18,
      draw: (items) => this.drawItems(items),
      overscan: 12,
    });
    this.scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this.setFollow(false), { passive: true });
    this.scroller.addEventListener("keydown", (event) => {
      if (["PageUp", "ArrowUp", "Home"].includes(event.key)) this.setFollow(false);
      if (event.key === "End") this.setFollow(true);
      event.stopPropagation();
    });
  }

  /** A switch for a column. */
  private column(name: string, of: "time" | "level"): HTMLElement {
    const button = h(
      "button",
      {
        class: "fnb-btn",
        type: "button",
        "aria-pressed": "false",
        title: `Show the ${of} of each line`,
        onclick: () => {
          this.shown[of] = !this.shown[of];
          setAttr(button, "aria-pressed", String(this.shown[of]));
          this.again();
        },
      },
      name,
    );
    return button;
  }

  private again(): void {
    this.serial = -1;
    this.draw();
  }

  /** Show what is searched for: what this browser has of it, until Python's answer comes. */
  private ask(): void {
    const { wanted } = this;
    this.results = null;
    if (wanted) this.host.search(wanted);
    this.again();
  }

  focus(): void {
    this.search.focus();
  }

  private setFollow(on: boolean): void {
    this.following = on;
    setAttr(this.follow, "aria-pressed", String(on));
    if (on) this.toEnd();
  }

  private toEnd(): void {
    if (!this.entries.length) return;
    this.list.reveal(this.entries.length - 1, "end");
    // Heights of the last lines are known only once they are drawn.
    requestAnimationFrame(() => {
      this.scroller.scrollTop = this.scroller.scrollHeight;
    });
  }

  /** What Python is to look for in the merged log. Null: nothing; or what it does not: a pattern could hold up the kernel. */
  get wanted(): LogQuery | null {
    const [text, level] = [this.search.value, this.level.value];
    return this.action || patternOf(text) || !(text || level) ? null : { text, level };
  }

  /** Lines that Python found. */
  found({ text, level }: LogQuery, log: Log): void {
    const { wanted } = this;
    if (text !== wanted?.text || level !== wanted.level) return;
    this.results = { lines: log.tail.map((line) => ({ line })), total: log.total };
    this.serial = -1;
    this.draw();
  }

  remounted(): void {
    if (this.following) this.toEnd();
  }

  /** Show one action's log, as fetched, at one of its lines. */
  showAction(name: string, label: string, log: Log, at?: WireLine): void {
    const entries: LogEntry[] = log.head.map((line) => ({ line }));
    if (log.hidden > 0) entries.push({ hidden: log.hidden });
    entries.push(...log.tail.map((line) => ({ line })));
    this.action = { name, label, entries };
    if (at) this.seek(at);
    this.again();
  }

  private seek(line: WireLine): void {
    this.sought = line;
    this.setFollow(false);
    this.search.value = "";
    this.level.value = "";
    this.results = null;
  }

  /** All actions' lines, and the one that was looked at among them. */
  private showAll(): void {
    this.action = null;
    if (this.marked) this.seek(this.marked);
    this.ask();
  }

  /** Bring the line that is sought into view. */
  private reveal(): void {
    const wanted = this.sought;
    if (!wanted) return;
    const at = this.entries.findIndex((one) => "line" in one && same(one.line, wanted));
    if (at < 0) return;
    this.sought = null;
    this.marked = wanted;
    this.list.reveal(at, "center");
  }

  draw(): void {
    if (this.serial === this.model.logSerial) return;
    const fresh = this.serial < 0;
    this.serial = this.model.logSerial;
    const source = this.action?.entries ?? this.model.logs;
    const wanted = this.search.value;
    const least = LEVELS.indexOf(this.level.value);
    const filter = wanted ? matcher(wanted, this.model) : () => true;
    const loud = (line: WireLine): boolean => least < 0 || LEVELS.indexOf(line[2]) >= least;
    this.entries =
      wanted || least >= 0 ? source.filter((one) => "line" in one && loud(one.line) && filter(one.line)) : [...source];
    const lines = source.reduce((n, one) => n + ("line" in one ? 1 : 0), 0);
    const total = this.action
      ? lines + source.reduce((n, one) => n + ("hidden" in one ? one.hidden : 0), 0)
      : this.model.logTotal;
    const asked = this.wanted !== null;
    const results = asked ? this.results : null;
    if (results) this.entries = results.lines;
    const n = results ? results.total : this.entries.length;
    const hidden = results ? n - results.lines.length : total - lines;
    const among = asked || !hidden ? `${number(n)} of ` : `${number(n)} in the ${number(lines)} shown of `;
    const found = wanted || least >= 0 ? among : "";
    setText(
      this.said,
      `${found}${number(total)} line${total === 1 ? "" : "s"}${hidden > 0 ? ` · ${number(hidden)} lines hidden` : ""}`,
    );
    show(this.scope, this.action !== null);
    if (this.action) setText(this.scope, `${this.action.label} ✕`);
    for (const { el } of this.pool.values()) if (fresh) el.remove();
    if (fresh) this.pool.clear();
    this.list.set(this.entries.length, fresh);
    this.reveal();
    if (this.following) this.toEnd();
  }

  private drawItems(items: VirtualItem[]): void {
    const seen = new Set<number>();
    const columns = { labelled: this.action === null && (this.model.header?.total ?? 0) > 1, ...this.shown };
    for (const item of items) {
      const { index } = item;
      const entry = this.entries[index];
      if (!entry) continue;
      seen.add(index);
      let known = this.pool.get(index);
      if (known?.entry !== entry) {
        known?.el.remove();
        known = { el: h("div", { class: "fnb-logline fnb-abs", "data-index": index }), entry };
        this.pool.set(index, known);
        const before = this.entries[index - 1];
        if ("line" in entry)
          drawLine(
            known.el,
            entry.line,
            this.model,
            columns,
            before !== undefined && "line" in before && before.line[0] === entry.line[0],
          );
        else this.drawGap(known.el, entry.hidden);
        this.inner.append(known.el);
        this.list.measure(known.el);
      }
      known.el.classList.toggle("fnb-marked", "line" in entry && same(entry.line, this.marked));
      place(known.el, item);
    }
    for (const [index, { el }] of this.pool) {
      if (seen.has(index)) continue;
      el.remove();
      this.pool.delete(index);
    }
  }

  private drawGap(el: HTMLElement, hidden: number): void {
    el.classList.add("fnb-gap");
    const reload = this.action
      ? h(
          "button",
          { class: "fnb-link", type: "button", onclick: () => this.host.download(this.action?.name ?? null) },
          "download all",
        )
      : h("button", { class: "fnb-link", type: "button", onclick: () => this.host.reload() }, "load");
    el.replaceChildren(`${number(hidden)} lines hidden · `, reload);
  }

  destroy(): void {
    this.list.destroy();
  }
}

/** Whether two lines are one, which may have come twice. */
const same = (line: WireLine, other: WireLine | null): boolean => line.every((part, i) => part === other?.[i]);

/** The regular expression that a search between slashes is; undefined for plain text, and while it is not whole. */
function patternOf(search: string): RegExp | undefined {
  if (!/^\/.+\/$/.test(search)) return undefined;
  try {
    return new RegExp(search.slice(1, -1), "i");
  } catch {
    return undefined;
  }
}

function matcher(search: string, model: RunModel): (line: WireLine) => boolean {
  const pattern = patternOf(search);
  if (pattern) return (line) => pattern.test(plain(line[3]));
  const wanted = search.toLowerCase();
  return (line) =>
    plain(line[3]).toLowerCase().includes(wanted) ||
    model.labelOf(line[0]).toLowerCase().includes(wanted) ||
    `a${model.labels.get(line[0])?.[0]}` === wanted;
}
