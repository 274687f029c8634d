/** Row of the tree, drawn once and changed in place. */

import type { Line } from "../flat.ts";
import { duration, growing, number, summary } from "../format.ts";
import type { RunModel } from "../model.ts";
import { endedOf, isFailure, isTerminal, P, phaseWord } from "../phases.ts";
import type { Row } from "../protocol.ts";
import { answerForm } from "./answer.ts";
import { Bar } from "./bar.ts";
import { h, setAttr, setLabel, setText, show } from "./dom.ts";
import { icon, phaseIcon } from "./icons.ts";

export interface RowHost {
  toggle(line: Line): void;
  select(line: Line): void;
  /** Show the calls of a group as a table. */
  tabulate(key: string): void;
  signal(row: Row, value: string): void;
}

/** Phases that the mark alone tells: the commonest. */
const UNSAID = [P.QUEUED, P.RUNNING, P.SUCCEEDED];

export class RowView {
  readonly el: HTMLElement;
  line: Line | null = null;
  private readonly main = h("div", { class: "fnb-main", role: "gridcell" });
  private readonly twist = h("span", { class: "fnb-twist", "aria-hidden": "true" }, icon("closed"));
  private readonly mark = h("span", { class: "fnb-mark" });
  private readonly label = h("span", { class: "fnb-label fnb-cut" });
  private readonly count = h("span", { class: "fnb-count" });
  private readonly tags = h("span", { class: "fnb-tags" });
  private readonly info = h("div", { class: "fnb-info", role: "gridcell" });
  private readonly infoText = h("span", { class: "fnb-infotext" });
  private readonly word = h("div", { class: "fnb-stateword", role: "gridcell" });
  private readonly time = h("div", { class: "fnb-dur", role: "gridcell" });
  private readonly worker = h("div", { class: "fnb-worker", role: "gridcell" });
  private readonly table: HTMLButtonElement;
  private bar: Bar | null = null;
  private form: HTMLFormElement | null = null;
  private phase = -1;
  private tagKey = "";

  constructor(private readonly host: RowHost) {
    this.table = h(
      "button",
      {
        class: "fnb-link fnb-totable",
        type: "button",
        tabindex: -1,
        hidden: true,
        title: "Table of these calls, and how their times and results are distributed",
        "aria-label": "Table of these calls",
        onclick: (event: Event) => {
          event.stopPropagation();
          if (this.line?.kind === "group") host.tabulate(this.line.group.key);
        },
      },
      icon("table"),
    );
    this.main.append(this.twist, this.mark, this.label, this.count, this.table, this.tags);
    this.info.append(this.infoText);
    this.el = h("div", { class: "fnb-row", role: "row" }, this.main, this.info, this.word, this.time, this.worker);
    this.twist.addEventListener("click", (event) => {
      event.stopPropagation();
      if (this.line) host.toggle(this.line);
    });
    this.el.addEventListener("click", (event) => {
      if (this.line && !(event.target as Element).closest("form")) host.select(this.line);
    });
  }

  draw(line: Line, model: RunModel, depth: number): void {
    this.line = line;
    const pad = `${8 + depth * 16}px`;
    if (this.main.style.paddingLeft !== pad) this.main.style.paddingLeft = pad;
    setAttr(this.el, "aria-level", String(depth + 1));
    if (line.kind === "group") this.drawGroup(line, model);
    else if (line.kind === "action") this.drawAction(line, model);
  }

  private drawGroup(line: Line & { kind: "group" }, model: RunModel): void {
    const { group, open } = line;
    this.el.classList.add("fnb-group");
    setAttr(this.el, "aria-expanded", String(open));
    show(this.twist, true);
    show(this.table, true);
    setLabel(this.label, group.named ? group.label : shortTask(group.label));
    setAttr(this.label, "title", group.label);
    setText(this.count, `× ${number(group.n)}${group.shared ? ` · ${group.shared}` : ""}`);
    setAttr(this.count, "title", group.shared ?? null);
    this.setPhase(groupPhase(group.counts, group.n), false);
    if (!this.bar) {
      this.bar = new Bar();
      this.info.prepend(this.bar.el);
    }
    this.bar.set(group.counts, group.n, `Progress of ${group.label}`);
    setText(this.infoText, [group.progress, summary(group.counts)].filter(Boolean).join(" · "));
    setText(this.word, "");
    const end = group.ended ?? model.elapsed();
    setText(this.time, group.ended !== undefined ? duration(end - group.queued) : growing(end - group.queued));
    setText(this.worker, "");
  }

  private drawAction(line: Line & { kind: "action" }, model: RunModel): void {
    const { row, open } = line;
    if (!row) {
      setLabel(this.label, `#${number(line.index)}`);
      const code = model.phases.get(line.group)?.[line.index] ?? P.QUEUED;
      this.setPhase(code, true);
      show(this.twist, false);
      setText(this.infoText, "");
      return;
    }
    const code = model.phaseOf(row);
    setAttr(this.el, "aria-expanded", row.kids ? String(open) : null);
    show(this.twist, Boolean(row.kids));
    const label = line.task ? `${line.task} ${row.label}` : row.label;
    setLabel(this.label, label);
    setAttr(this.label, "title", label);
    this.setPhase(code, true);
    // Also one that is parked, or between two attempts: its latest attempt has failed.
    this.drawTags(row, isFailure(code) || (Boolean(row.error) && code !== P.RUNNING));
    const asked = row.asks ? (row.label.includes(row.asks.prompt.slice(0, 60)) ? "" : row.asks.prompt) : undefined;
    const said = row.preview && row.note ? `${row.preview} · ${row.note}` : (row.note ?? row.preview);
    const info = row.error ?? asked ?? said ?? (UNSAID.includes(code) ? "" : phaseWord(code));
    setText(this.infoText, info);
    setAttr(this.infoText, "title", info || null);
    this.infoText.classList.toggle("fnb-error", Boolean(row.error));
    this.infoText.classList.toggle("fnb-preview", Boolean(row.preview) && !row.error && !row.note);
    this.drawForm(row, code, model.lost);
    this.tick(model);
    setText(this.worker, row.worker === undefined ? "" : `w${row.worker}`);
  }

  /** Only what the clock changes. */
  tick(model: RunModel): void {
    const line = this.line;
    if (line?.kind === "group" && line.group.ended === undefined)
      setText(this.time, growing(model.elapsed() - line.group.queued));
    if (line?.kind !== "action" || !line.row) return;
    const whole = tookText(line.row, model);
    const { kids, ended } = line.row;
    const itself = whole && line.took !== undefined && (kids || ended !== undefined);
    setText(this.time, itself ? duration(line.took) : whole);
    setAttr(this.time, "title", itself && kids ? `${whole} with the actions that it awaited` : null);
  }

  private setPhase(code: number, word: boolean): void {
    if (code === this.phase) return;
    this.phase = code;
    this.mark.replaceChildren(phaseIcon(code));
    setText(this.word, word ? phaseWord(code) : "");
    this.word.className = `fnb-stateword fnb-c-${code}`;
    this.el.classList.toggle("fnb-failed", isFailure(code));
  }

  private drawTags(row: Row, failed: boolean): void {
    const key = `${row.attempt}/${row.of}/${row.cached}/${failed}`;
    if (key === this.tagKey) return;
    this.tagKey = key;
    const tags: Node[] = [];
    const attempt = row.attempt ?? 1;
    if (attempt > 1) {
      const title = `attempt ${attempt}${row.of ? ` of ${row.of}` : ""}`;
      const dots = Array.from({ length: Math.min(attempt, 6) }, (_, i) =>
        h("i", { class: failed || i + 1 < attempt ? "fnb-try-failed" : "fnb-try" }),
      );
      tags.push(h("span", { class: "fnb-tries", role: "img", "aria-label": title, title }, ...dots));
    }
    if (row.cached)
      tags.push(
        h(
          "span",
          { class: "fnb-cached", role: "img", "aria-label": "from the cache", title: "from the cache" },
          icon("cache"),
          "cached",
        ),
      );
    this.tags.replaceChildren(...tags);
  }

  /** The answer to a condition. Made once, so that what was typed survives updates. */
  private drawForm(row: Row, code: number, lost: boolean): void {
    const wanted = row.kind === "condition" && code === P.PAUSED && !lost;
    this.el.classList.toggle("fnb-asks", wanted);
    if (wanted && !this.form) {
      this.form = answerForm(row.asks, row.label, (value) => {
        if (this.line?.kind === "action" && this.line.row) this.host.signal(this.line.row, value);
      });
      this.info.append(this.form);
    } else if (!wanted && this.form) {
      this.form.remove();
      this.form = null;
    }
  }
}

/** How long an action ran, or has been running; "" before, and while it is not known. */
export function tookText(row: Row, model: RunModel): string {
  const { started, ended, ran, away } = row;
  if (started === undefined) return "";
  if (ended !== undefined || ran !== undefined) return duration(ran ?? (ended ?? started) - started);
  return isTerminal(model.phaseOf(row)) ? "" : growing(model.elapsed() - started - (away ?? 0));
}

export const shortTask = (task: string): string => task.slice(task.lastIndexOf(".") + 1);

/** The one icon of a group: trouble first, then movement. */
function groupPhase(counts: number[], n: number): number {
  const of = (...codes: number[]): number => codes.reduce((sum, code) => sum + (counts[code] ?? 0), 0);
  const ended = endedOf(counts);
  if (ended < n)
    return of(P.RUNNING, P.INITIALIZING)
      ? P.RUNNING
      : of(P.PAUSED)
        ? P.PAUSED
        : of(P.CANCELLING)
          ? P.CANCELLING
          : ended
            ? P.RUNNING
            : P.QUEUED;
  if (of(P.FAILED, P.TIMED_OUT)) return P.FAILED;
  if (of(P.ABORTED, P.ABANDONED)) return P.ABORTED;
  return P.SUCCEEDED;
}
