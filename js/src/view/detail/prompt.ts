/** Debugger prompt in the panel: an action that stands at `breakpoint()` is attached to, while its cell still waits for it. */

import { P } from "../../phases.ts";
import type { Detail, Row } from "../../protocol.ts";
import { type Child, h, setText, show } from "../dom.ts";
import { section } from "./section.ts";

/** Characters that are kept of what the debugger printed. */
const MAX_TEXT = 40_000;

/** What the debugger printed, and whether it asks for a line ("prompt"), or the action goes on ("left") or has ended. */
export interface Printed {
  text: string;
  state: string;
}

export interface PromptHost {
  /** Send a line to an action's debugger; none: attach. */
  debug(action: string, line?: string): Promise<Printed>;
}

export class PromptSection {
  private of = "";
  private text = "";
  /** Whether the debugger asks for a line. */
  private asks = false;
  private said = 0;
  private readonly out = h("pre", {
    class: "fnb-pre fnb-debug",
    tabindex: 0,
    "data-testid": "fnb-debug",
    hidden: true,
  });
  private readonly input = h("input", {
    class: "fnb-input",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Line for the debugger",
    placeholder: "p x · n · s · up · c goes on",
    "data-testid": "fnb-debug-line",
  });
  private readonly form = h(
    "form",
    { class: "fnb-signal fnb-debugline", hidden: true },
    this.input,
    h("button", { class: "fnb-btn", type: "submit" }, "Send"),
  );
  private readonly attach = h(
    "button",
    { class: "fnb-btn fnb-primary", type: "button", "data-testid": "fnb-attach", onclick: () => this.enter() },
    "Attach",
  );
  private readonly goOn = h(
    "button",
    { class: "fnb-btn", type: "button", onclick: () => this.enter("continue") },
    "Let it go on",
  );
  private readonly el = h("div", {}, h("div", { class: "fnb-buttons" }, this.attach, this.goOn), this.out, this.form);

  constructor(private readonly host: PromptHost) {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const line = this.input.value;
      this.input.value = "";
      this.print(`> ${line}\n`);
      this.enter(line);
    });
  }

  draw(detail: Detail, row: Row, code: number): Child {
    const stands = code === P.PAUSED && (row.note ?? detail.note).startsWith("breakpoint");
    if (this.of !== detail.name) this.begin(detail.name);
    if (!stands && !this.text) return null;
    if (!stands) this.asks = false;
    show(this.attach, stands && !this.asks);
    show(this.goOn, stands);
    show(this.form, stands && this.asks);
    return section("Debugger", this.el);
  }

  attachTo(name: string): void {
    if (this.of !== name) this.begin(name);
    if (!this.asks) this.enter();
  }

  private begin(name: string): void {
    this.of = name;
    this.text = "";
    this.asks = false;
    this.said++;
    show(this.out, false);
  }

  private enter(line?: string): void {
    const said = ++this.said;
    this.input.setAttribute("aria-busy", "true");
    this.host.debug(this.of, line).then(
      (printed) => said === this.said && this.take(printed),
      (error: Error) => said === this.said && this.take({ text: `${error.message}\n`, state: "left" }),
    );
  }

  private take({ text, state }: Printed): void {
    this.input.removeAttribute("aria-busy");
    this.asks = state === "prompt";
    show(this.form, this.asks);
    this.print(this.asks ? text : `${text}${state === "ended" ? "It has ended." : text ? "" : "It goes on."}\n`);
    show(this.attach, !this.asks);
    if (this.asks) this.input.focus({ preventScroll: true });
  }

  private print(text: string): void {
    this.text = (this.text + text).slice(-MAX_TEXT);
    setText(this.out, this.text);
    show(this.out, true);
    this.out.scrollTop = this.out.scrollHeight;
    if (this.asks) this.form.scrollIntoView?.({ block: "nearest" });
  }
}
