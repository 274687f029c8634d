/** The panel of one action: what went in and out, what went wrong, its attempts, times and log. */

import { duration, growing, number } from "../../format.ts";
import type { RunModel } from "../../model.ts";
import { isFailure, isTerminal, P, phaseWord } from "../../phases.ts";
import type { Attempt, Detail, Frame, Row, Table, Value } from "../../protocol.ts";
import { answerForm } from "../answer.ts";
import { append, type Child, h, keepFocus, setAttr, setText, show } from "../dom.ts";
import { icon, phaseIcon } from "../icons.ts";
import { drawLine } from "../logs.ts";

/** Log lines drawn in the panel; the Logs tab shows all. */
const MAX_LOG = 60;
/** Milliseconds between two fetches of a report that changes. */
const REPORT_EVERY = 1_000;

export interface DetailHost {
  close(): void;
  command(op: string, args: Record<string, unknown>): void;
  /** A command whose answer is text shown in the panel. */
  ask(op: string, args: Record<string, unknown>): Promise<string>;
  report(action: string, tab: string): Promise<string>;
  openLog(detail: Detail): void;
  openNumber(id: number): void;
  signal(row: Row, value: string): void;
  copy(text: string): void;
}

export class DetailView {
  readonly el: HTMLElement;
  private readonly head = h("div", { class: "fnb-dhead" });
  private readonly body = h("div", { class: "fnb-dbody", tabindex: 0, role: "group", "aria-label": "Details" });
  private readonly time = h("span", { class: "fnb-time" });
  private shown: Detail | null = null;
  /** The report on show, which outlives redraws, and its tab. */
  private page: { of: string; el: HTMLElement } = { of: "", el: h("div", {}) };
  private tab = "";
  /** Draws the time of an action that goes on, once a second. */
  private clock: (() => void) | null = null;
  private second = -1;
  private answered = { of: "", text: "" };
  private out: HTMLElement = h("pre", {});
  private reportTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly model: RunModel,
    private readonly host: DetailHost,
  ) {
    this.el = h(
      "div",
      { class: "fnb-detail", role: "group", "aria-label": "Action", hidden: true, "data-testid": "fnb-detail" },
      this.head,
      this.body,
    );
    this.el.addEventListener("keydown", (event) => {
      if (event.key === "Escape") host.close();
      event.stopPropagation();
    });
  }

  get open(): boolean {
    return !this.el.hidden;
  }

  hide(): void {
    show(this.el, false);
    this.shown = null;
  }

  /** What is known before the answer is there. */
  waiting(row: Row | undefined, id: string): void {
    show(this.el, true);
    this.drawHead(row, row?.label ?? id, row?.id);
    if (!this.shown || this.shown.name !== row?.name)
      this.body.replaceChildren(h("div", { class: "fnb-muted fnb-pad" }, "Fetching…"));
  }

  failed(error: Error): void {
    this.body.replaceChildren(h("div", { class: "fnb-pad fnb-error", role: "alert" }, error.message));
  }

  private drawHead(row: Row | undefined, label: string, id: number | undefined): void {
    const code = row ? this.model.phaseOf(row) : P.QUEUED;
    this.head.replaceChildren(
      h(
        "span",
        { class: `fnb-state fnb-c-${code}` },
        phaseIcon(code),
        h("span", { class: "fnb-word" }, phaseWord(code)),
      ),
      h("span", { class: "fnb-run" }, id === undefined ? "" : `a${id}`),
      h("span", { class: "fnb-title fnb-ink", title: label }, label),
      this.time,
      h(
        "button",
        { class: "fnb-btn fnb-more", type: "button", "aria-label": "Close details", onclick: () => this.host.close() },
        icon("close"),
      ),
    );
    this.tick();
  }

  tick(): void {
    const second = Math.floor(this.model.elapsed());
    if (this.clock && second !== this.second) this.clock();
    this.second = second;
    const row = this.shown ? this.model.rows.get(this.shown.name) : undefined;
    if (!row || row.started === undefined) setText(this.time, "");
    else
      setText(
        this.time,
        row.ended !== undefined ? duration(row.ended - row.started) : growing(this.model.elapsed() - row.started),
      );
  }

  draw(detail: Detail): void {
    const again = this.shown?.name === detail.name;
    const scroll = again ? this.body.scrollTop : 0;
    const opened = again ? this.unfolded() : null;
    const typed = again ? this.body.querySelector<HTMLInputElement>(".fnb-signal input")?.value : undefined;
    this.shown = detail;
    const row = this.model.rows.get(detail.name) ?? detail.row;
    keepFocus(
      this.el,
      () => {
        this.drawHead(row, detail.label, detail.id);
        this.drawBody(detail, row);
      },
      () => this.body,
    );
    if (opened)
      for (const one of this.body.querySelectorAll("details"))
        one.open = opened.get(one.firstChild?.textContent ?? "") ?? one.open;
    const input = this.body.querySelector<HTMLInputElement>(".fnb-signal input");
    if (input && typed) input.value = typed;
    this.body.scrollTop = scroll;
  }

  /** What the reader has unfolded, by its first line. */
  private unfolded(): Map<string, boolean> {
    return new Map(
      [...this.body.querySelectorAll("details")].map((one) => [one.firstChild?.textContent ?? "", one.open]),
    );
  }

  private drawBody(detail: Detail, row: Row): void {
    this.body.replaceChildren();
    append(this.body, [
      this.path(detail),
      this.commands(detail, row),
      this.condition(detail, row),
      this.error(detail),
      this.values("Inputs", detail.inputs),
      detail.output ? section("Output", this.value(detail.output)) : null,
      this.times(detail),
      this.attempts(detail),
      this.reports(detail),
      this.log(detail),
    ]);
  }

  private path(detail: Detail): Child {
    if (!detail.path.length) return null;
    const links = detail.path.flatMap(([id, label], i) => [
      i ? " › " : "",
      h("button", { class: "fnb-link", type: "button", title: label, onclick: () => this.host.openNumber(id) }, label),
    ]);
    return h("div", { class: "fnb-path" }, links);
  }

  private commands(detail: Detail, row: Row): Child {
    const args = { action: detail.name };
    const code = this.model.phaseOf(row);
    // What was answered stays over redraws, until another action is opened.
    const kept = this.answered.of === detail.name ? this.answered.text : "";
    const out = h("pre", { class: "fnb-pre", "data-testid": "fnb-answered", hidden: !kept }, kept);
    this.out = out;
    const button = (label: string, run: () => void, extra = "") =>
      h("button", { class: `fnb-btn ${extra}`.trim(), type: "button", onclick: run }, label);
    const tell = (text: string): void => {
      this.answered = { of: detail.name, text };
      setText(this.out, text);
      show(this.out, true);
    };
    const ask = (op: string): void => {
      this.host.ask(op, args).then(tell, (error: Error) => tell(error.message));
    };
    const value = this.resumeForm((text) => this.host.command("resume", { ...args, value: text }));
    const buttons: Child[] = [];
    if (!isTerminal(code)) buttons.push(button("Cancel action", () => this.host.command("cancel_action", args)));
    if (!isTerminal(code) && detail.kind !== "condition") buttons.push(button("Stack", () => ask("stack")));
    if (isFailure(code) || code === P.PAUSED || code === P.ABORTED || code === P.ABANDONED) {
      if (detail.kind !== "condition")
        buttons.push(button("Retry", () => this.host.command("retry_action", args), "fnb-primary"));
      if (code === P.PAUSED && detail.kind !== "condition") {
        buttons.push(
          button("Resume with…", () => {
            show(value, value.hidden);
            if (!value.hidden) value.querySelector("input")?.focus();
          }),
        );
        buttons.push(button("Raise", () => this.host.command("raise", args)));
      }
    }
    const hints = detail.hints ?? (isFailure(code) ? [{ label: "Debug", code: `%flyte debug a${detail.id}` }] : []);
    const lines = hints.map(({ label, code: text }) =>
      h(
        "div",
        { class: "fnb-hint" },
        h("code", { title: label }, text),
        h(
          "button",
          { class: "fnb-link", type: "button", "aria-label": `Copy ${text}`, onclick: () => this.host.copy(text) },
          "copy",
        ),
        h("span", { class: "fnb-muted fnb-hintsaid", title: label }, label),
      ),
    );
    if (!buttons.length && !lines.length) return null;
    return h("div", { class: "fnb-dcommands" }, h("div", { class: "fnb-buttons" }, buttons), value, lines, out);
  }

  /** Which value a parked action shall succeed with: a literal, since nothing of the notebook runs where it is taken. */
  private resumeForm(send: (value: string) => void): HTMLFormElement {
    const input = h("input", {
      class: "fnb-input",
      type: "text",
      "aria-label": "Value to resume with",
      placeholder: "a Python literal: 0.5, 'text', [1, 2], None",
      "data-testid": "fnb-resume",
    });
    const form = h(
      "form",
      { class: "fnb-signal", hidden: true },
      input,
      h("button", { class: "fnb-btn fnb-primary", type: "submit" }, "Resume"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(input.value.trim() || "None");
    });
    return form;
  }

  private condition(detail: Detail, row: Row): Child {
    if (detail.kind !== "condition" || this.model.phaseOf(row) !== P.PAUSED)
      return detail.note ? h("div", { class: "fnb-note" }, detail.note) : null;
    const form = answerForm(row.asks, row.label, (value) => this.host.signal(row, value));
    return section(
      "Waits for you",
      h("div", { class: "fnb-prompt" }, row.asks?.prompt ?? detail.note),
      row.asks?.about ? h("div", { class: "fnb-prompt fnb-muted" }, row.asks.about) : null,
      form,
    );
  }

  private error(detail: Detail): Child {
    const { error, failure } = detail;
    if (!error && !failure) return null;
    const head = error
      ? h(
          "div",
          { class: "fnb-errhead" },
          h("strong", {}, error.code),
          h("span", { class: "fnb-errtext" }, error.message),
          error.where ? h("div", { class: "fnb-muted" }, error.where) : null,
        )
      : null;
    const frames = failure?.frames.length ? this.frames(failure.frames) : null;
    const text = failure?.text
      ? h(
          "details",
          {},
          h("summary", {}, "Full traceback"),
          h("pre", { class: "fnb-pre" }, failure.text),
          h("button", { class: "fnb-link", type: "button", onclick: () => this.host.copy(failure.text) }, "copy"),
        )
      : null;
    return section("Error", head, frames, text);
  }

  private frames(frames: Frame[]): Child {
    const out: Child[] = [];
    let folded: Frame[] = [];
    const flush = () => {
      if (folded.length) {
        const list = folded;
        out.push(
          h(
            "details",
            { class: "fnb-folded" },
            h("summary", { class: "fnb-muted" }, `${number(list.length)} library frame${list.length > 1 ? "s" : ""}`),
            list.map((frame) => this.frame(frame, false)),
          ),
        );
      }
      folded = [];
    };
    const last = frames.findLastIndex((frame) => frame.user);
    // A comprehension's own frame says little: what it looks at is in the function around it.
    const opened = frames[last]?.function.startsWith("<")
      ? [last, frames.findLastIndex((one, i) => one.user && i < last)]
      : [last];
    frames.forEach((frame, i) => {
      if (!frame.user) {
        folded.push(frame);
        return;
      }
      flush();
      out.push(this.frame(frame, opened.includes(i)));
    });
    flush();
    return out;
  }

  private frame(frame: Frame, open: boolean): Child {
    const file = frame.file.slice(frame.file.lastIndexOf("/") + 1);
    const variables = Object.entries(frame.locals);
    return h(
      "details",
      { class: "fnb-frame", open },
      h(
        "summary",
        { title: frame.file },
        h("code", {}, frame.function || "?"),
        h("span", { class: "fnb-muted" }, ` ${file}:${frame.line}`),
      ),
      frame.source ? sourceOf(frame.source) : null,
      variables.length
        ? h(
            "div",
            { class: "fnb-locals" },
            variables.map(([name, text]) => [
              h("div", { class: "fnb-k", title: name }, name),
              h("div", { class: "fnb-v" }, text),
            ]),
          )
        : null,
    );
  }

  private values(title: string, values: ({ name: string } & Value)[] | undefined): Child {
    if (!values?.length) return null;
    return section(
      title,
      h(
        "div",
        { class: "fnb-values" },
        values.map((one) => [
          h("div", { class: "fnb-k", title: one.name }, one.name),
          h("div", { class: "fnb-v" }, this.value(one)),
        ]),
      ),
    );
  }

  private value(value: Value): Child {
    if (value.table) return tableOf(value.table, value.text);
    if (value.png)
      return h("img", { class: "fnb-img", alt: value.text || "image", src: `data:image/png;base64,${value.png}` });
    if (value.html) return frameOf(value.html, value.text || "value");
    return h("pre", { class: "fnb-pre" }, value.text);
  }

  private times(detail: Detail): Child {
    this.clock = null;
    if (detail.started === null) return null;
    const box = h("div", {});
    const draw = (): void => box.replaceChildren(...this.timeBar(detail));
    draw();
    if (detail.ended === null) this.clock = draw;
    return section("Time", box);
  }

  /** Where its time went, as a bar and in words. */
  private timeBar(detail: Detail): HTMLElement[] {
    if (detail.started === null) return [];
    const end = detail.ended ?? this.model.elapsed();
    const queued = Math.max(0, detail.started - detail.queued);
    const ran = Math.max(0, end - detail.started);
    const busy = Math.min(
      ran,
      detail.attempts.reduce((sum, one) => sum + one.busy, 0),
    );
    const waited = Math.min(ran, detail.waited ?? 0);
    // While it runs nobody has said yet how much of it was spent suspended.
    const held = detail.ended === null && busy === 0 ? ran : busy;
    const running = Math.max(0, held - waited);
    const parts = [
      { word: "queued", seconds: queued, look: P.QUEUED },
      { word: "running", seconds: running, look: P.RUNNING },
      { word: "awaiting its actions", seconds: waited, look: P.PAUSED },
      { word: "suspended", seconds: ran - running - waited, look: P.PAUSED },
    ].filter(({ seconds }) => seconds > 0.004 * (queued + ran) && seconds >= 0.005);
    const bar = h("div", {
      class: "fnb-bar fnb-times",
      role: "img",
      "aria-label": parts.map(({ word, seconds }) => `${word} ${duration(seconds)}`).join(", "),
    });
    for (const { seconds, look } of parts)
      bar.append(
        h("span", {
          class: `fnb-b-${look}${look === P.PAUSED ? " fnb-hatch" : ""}`,
          style: { flexGrow: String(1000 * seconds) },
        }),
      );
    const words = parts.map(({ word, seconds, look }) =>
      h(
        "span",
        { class: "fnb-key" },
        h("i", { class: `fnb-b-${look}${look === P.PAUSED ? " fnb-hatch" : ""}` }),
        `${word} ${duration(seconds)}`,
      ),
    );
    return [bar, h("div", { class: "fnb-keys" }, words)];
  }

  private attempts(detail: Detail): Child {
    if (!detail.attempts.length) return null;
    const line = (attempt: Attempt) => {
      const took = attempt.started === null ? "" : duration((attempt.ended ?? this.model.elapsed()) - attempt.started);
      const code = attempt.ok === null ? P.RUNNING : attempt.ok ? P.SUCCEEDED : P.FAILED;
      const where = `${shortWorker(attempt.worker)}${/^\d+$/.test(attempt.slot) ? ` slot ${attempt.slot}` : ""}${attempt.pid ? ` · pid ${attempt.pid}` : ""}`;
      return h(
        "div",
        { class: "fnb-attempt" },
        phaseIcon(code),
        h("span", {}, `${attempt.number + 1}${detail.max_attempts > 1 ? ` of ${detail.max_attempts}` : ""}`),
        h("span", { class: "fnb-num" }, took),
        h("span", { class: "fnb-muted", title: attempt.worker }, where),
        attempt.error && detail.attempts.length > 1
          ? h("span", { class: "fnb-error" }, `${attempt.error.code}: ${attempt.error.message.split("\n")[0]}`)
          : null,
      );
    };
    return section(detail.attempts.length > 1 ? "Attempts" : "Attempt", detail.attempts.map(line));
  }

  /** A report has changed, of whichever action. */
  reported(name: string, tab: string): void {
    if (!this.shown || this.shown.name !== name) return;
    if (!this.shown.reports.includes(tab)) {
      this.shown.reports.push(tab);
      this.draw(this.shown);
    } else if (tab === this.tab && !this.reportTimer)
      this.reportTimer = setTimeout(() => {
        this.reportTimer = null;
        this.loadReport(name, tab);
      }, REPORT_EVERY);
  }

  private reports(detail: Detail): Child {
    if (!detail.reports.length) return null;
    if (this.page.of !== detail.name || !detail.reports.includes(this.tab)) {
      this.page = { of: detail.name, el: h("div", {}) };
      this.tab = detail.reports[0] as string;
      this.loadReport(detail.name, this.tab);
    }
    const buttons = detail.reports.map((tab) =>
      h(
        "button",
        {
          class: "fnb-btn",
          type: "button",
          "aria-pressed": String(tab === this.tab),
          onclick: (event: Event) => {
            this.tab = tab;
            const pressed = event.currentTarget as Element;
            for (const one of pressed.parentElement?.children ?? [])
              setAttr(one, "aria-pressed", String(one === pressed));
            this.loadReport(detail.name, tab);
          },
        },
        tab || "main",
      ),
    );
    return section(
      "Report",
      detail.reports.length > 1 ? h("div", { class: "fnb-buttons" }, buttons) : null,
      this.page.el,
    );
  }

  private loadReport(name: string, tab: string): void {
    this.host.report(name, tab).then(
      (page) =>
        this.page.of === name && this.tab === tab && this.page.el.replaceChildren(frameOf(page, `Report ${tab}`, 260)),
      (error: Error) => this.page.el.replaceChildren(h("div", { class: "fnb-error" }, error.message)),
    );
  }

  private log(detail: Detail): Child {
    const { head, hidden, tail, total } = detail.log;
    if (!total) return null;
    const lines = [...head, ...tail].slice(-MAX_LOG);
    const box = h("div", { class: "fnb-dlog" });
    for (const line of lines) {
      const el = h("div", { class: "fnb-logline" });
      drawLine(el, line, this.model, false, false);
      box.append(el);
    }
    const others = total - lines.length;
    const more = h(
      "button",
      { class: "fnb-link", type: "button", onclick: () => this.host.openLog(detail) },
      others > 0 || hidden ? `all ${number(total)} lines` : "open in Logs",
    );
    return section(`Log`, more, box);
  }
}

function section(title: string, ...children: Child[]): HTMLElement {
  // No landmark: with several views on a page there would be dozens of the same name.
  return h(
    "div",
    { class: "fnb-section", role: "group", "aria-label": title },
    h("div", { class: "fnb-h" }, title),
    children,
  );
}

/** Lines of source, the failing one (marked by Python with a ">") in colour. */
function sourceOf(source: string): HTMLElement {
  const lines = source
    .split("\n")
    .map((line) => h("div", { class: line.startsWith(">") ? "fnb-failing" : null }, line || " "));
  return h("div", { class: "fnb-source", tabindex: 0, role: "group", "aria-label": "Source" }, lines);
}

/** A data frame's head and tail. */
function tableOf(table: Table, label: string): HTMLElement {
  const numeric = table.head.map((_, column) =>
    table.rows.every((row) => NUMBER.test(row[column] ?? "") || row[column] === "…"),
  );
  const cell = (text: string, column: number): HTMLElement =>
    table.index && column === 0
      ? h("th", { scope: "row", title: text }, text)
      : h("td", { class: numeric[column] ? "fnb-num" : null, title: text.length > 24 ? text : null }, text);
  return h(
    "div",
    { class: "fnb-tablebox", tabindex: 0, role: "group", "aria-label": label || "table" },
    h(
      "table",
      { class: "fnb-table" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          table.head.map((name, column) =>
            h(
              name ? "th" : "td",
              { scope: name ? "col" : null, class: numeric[column] ? "fnb-num" : null, title: name },
              name,
            ),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        table.rows.map((row) => h("tr", {}, row.map(cell))),
      ),
    ),
    h("div", { class: "fnb-muted fnb-tablesaid" }, table.said),
  );
}

const NUMBER = /^[-+]?[\d,.]+(e[-+]?\d+)?$|^nan$|^inf$/i;

/** A user's HTML: in a frame of its own without script, so that it can't touch the page. */
function frameOf(page: string, title: string, height = 220): HTMLElement {
  const frame = h("iframe", {
    class: "fnb-frame-html",
    sandbox: "",
    title,
    referrerpolicy: "no-referrer",
    style: { height: `${height}px` },
  });
  frame.srcdoc = `<style>body{font:13px/1.5 system-ui,sans-serif;margin:8px}</style>${page}`;
  return frame;
}

const shortWorker = (address: string): string => address.replace(/^\w+:\/\//, "");
