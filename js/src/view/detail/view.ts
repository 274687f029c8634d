/** Panel of one action: puts its sections together, and keeps focus and what was unfolded over redraws. */

import type { RunModel } from "../../model.ts";
import { P, phaseWord } from "../../phases.ts";
import type { Detail, Row } from "../../protocol.ts";
import { answerForm } from "../answer.ts";
import { append, type Child, h, keepFocus, setText, show } from "../dom.ts";
import { icon, phaseIcon } from "../icons.ts";
import { placed } from "../places.ts";
import { tookText } from "../rowview.ts";
import { type ButtonsHost, ButtonsSection } from "./buttons.ts";
import { failureSection } from "./failure.ts";
import { logSection } from "./log.ts";
import { type PromptHost, PromptSection } from "./prompt.ts";
import { ReportSection } from "./report.ts";
import { section } from "./section.ts";
import { attemptsSection, TimesSection } from "./times.ts";
import { inputsSection, isSmall, outputSection } from "./values.ts";

export interface DetailHost extends ButtonsHost, PromptHost {
  close(): void;
  report(action: string, tab: string): Promise<string>;
  openNumber(id: number): void;
  signal(row: Row, value: string): void;
  /** Why an action waits. */
  why(action: string): Promise<string>;
}

/** Whether its note says what its error says below. */
const isError = ({ note, error }: Detail): boolean =>
  error !== undefined && note.startsWith(`${error.code}: `.slice(0, note.length));

export class DetailView {
  readonly el: HTMLElement;
  private readonly head = h("div", { class: "fnb-dhead" });
  private readonly body = h("div", { class: "fnb-dbody", tabindex: 0, role: "group", "aria-label": "Details" });
  private readonly time = h("span", { class: "fnb-time" });
  private readonly buttons: ButtonsSection;
  private readonly times: TimesSection;
  private readonly report: ReportSection;
  private readonly prompt: PromptSection;
  private shown: Detail | null = null;

  constructor(
    private readonly model: RunModel,
    private readonly host: DetailHost,
  ) {
    this.buttons = new ButtonsSection(host);
    this.times = new TimesSection(model, (action) => host.why(action));
    this.prompt = new PromptSection(host);
    this.report = new ReportSection((action, tab) => host.report(action, tab));
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

  /** Attach to an action at a breakpoint, which is being opened. */
  attach(row: Row): void {
    this.prompt.attachTo(row.name);
  }

  /** The kernel is gone: what is known stays, without buttons and forms. */
  lost(): void {
    if (this.shown) this.draw(this.shown);
  }

  failed(error: Error): void {
    this.body.replaceChildren(h("div", { class: "fnb-pad fnb-error", role: "alert" }, error.message));
  }

  private drawHead(row: Row | undefined, label: string, id: number | undefined, whole = label): void {
    const code = row ? this.model.phaseOf(row) : P.QUEUED;
    this.head.replaceChildren(
      h(
        "span",
        { class: `fnb-state fnb-c-${code}` },
        phaseIcon(code),
        h("span", { class: "fnb-word" }, phaseWord(code)),
      ),
      h("span", { class: "fnb-run" }, id === undefined ? "" : `a${id}`),
      h("span", { class: "fnb-title fnb-ink", title: whole }, label),
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
    this.times.tick();
    const row = this.shown ? this.model.rows.get(this.shown.name) : undefined;
    setText(this.time, row ? tookText(row, this.model) : "");
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
        this.drawHead(row, detail.short ?? detail.label, detail.id, detail.label);
        this.body.replaceChildren();
        append(this.body, this.sections(detail, row));
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

  private sections(detail: Detail, row: Row): Child[] {
    const { host, model } = this;
    const code = model.phaseOf(row);
    const small = isSmall(detail.output);
    const failure = failureSection(detail, (text) => host.copy(text));
    // Its error is of the past where a person has said what its result shall be.
    const given = code === P.SUCCEEDED;
    return [
      this.path(detail),
      model.lost ? null : this.buttons.draw(detail, code),
      this.condition(detail, row, code),
      // What waits has nothing else to say.
      detail.why ? this.times.draw(detail) : null,
      model.lost ? null : this.prompt.draw(detail, row, code),
      given ? null : failure,
      // A number is seen at once; what fills the panel comes below what it was made from.
      small ? outputSection(detail.output) : null,
      given ? failure : null,
      inputsSection(detail.inputs),
      small ? null : outputSection(detail.output),
      detail.why ? null : this.times.draw(detail),
      attemptsSection(detail, model.elapsed()),
      this.report.draw(detail),
      logSection(detail, model, (at) => host.openLog(detail, at)),
    ];
  }

  private path(detail: Detail): Child {
    if (!detail.path.length) return null;
    const links = detail.path.flatMap(([id, label], i) => [
      i ? " › " : "",
      h("button", { class: "fnb-link", type: "button", title: label, onclick: () => this.host.openNumber(id) }, label),
    ]);
    return h("div", { class: "fnb-path" }, links);
  }

  private condition(detail: Detail, row: Row, code: number): Child {
    if (detail.kind !== "condition" || code !== P.PAUSED || this.model.lost)
      return detail.note && !isError(detail) ? h("div", { class: "fnb-note" }, placed(detail.note)) : null;
    return section(
      "Waits for you",
      h("div", { class: "fnb-prompt" }, row.asks?.prompt ?? detail.note),
      row.asks?.about ? h("div", { class: "fnb-prompt fnb-muted" }, row.asks.about) : null,
      answerForm(row.asks, row.label, (value) => this.host.signal(row, value)),
    );
  }

  /** A report has changed, of whichever action. */
  reported(name: string, tab: string): void {
    if (this.shown?.name !== name) return;
    if (this.shown.reports.includes(tab)) this.report.changed(name, tab);
    else {
      this.shown.reports.push(tab);
      this.draw(this.shown);
    }
  }
}
