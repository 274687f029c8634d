/** Buttons of the panel: commands for the action, their answers, and lines of code to copy. */

import { number } from "../../format.ts";
import { isFailure, isTerminal, P } from "../../phases.ts";
import type { Detail, WireLine } from "../../protocol.ts";
import { type Child, h, setText, show } from "../dom.ts";

export interface ButtonsHost {
  command(op: string, args: Record<string, unknown>): void;
  /** A command whose answer is text shown in the panel. */
  ask(op: string, args: Record<string, unknown>): Promise<string>;
  copy(text: string): void;
  /** Show an action's whole log, at a line. */
  openLog(detail: Detail, at?: WireLine): void;
}

export class ButtonsSection {
  /** What was answered stays over redraws, until another action is opened. */
  private answered = { of: "", text: "" };
  private out: HTMLElement = h("pre", {});

  constructor(private readonly host: ButtonsHost) {}

  draw(detail: Detail, code: number): Child {
    const args = { action: detail.name };
    const kept = this.answered.of === detail.name ? this.answered.text : "";
    const out = h("pre", { class: "fnb-pre", "data-testid": "fnb-answered", hidden: !kept }, kept);
    this.out = out;
    const form = resumeForm((value) => this.host.command("resume", { ...args, value }));
    const buttons = this.buttons(detail, code, form);
    const { total } = detail.log;
    if (total) buttons.push(button(`Log ${number(total)}`, () => this.host.openLog(detail)));
    const hints = detail.hints ?? (isFailure(code) ? [{ label: "Debug", code: `%flyte debug a${detail.id}` }] : []);
    if (!buttons.length && !hints.length) return null;
    const lines = hints.map((one) => this.hint(one));
    return h("div", { class: "fnb-dcommands" }, h("div", { class: "fnb-buttons" }, buttons), form, lines, out);
  }

  private buttons(detail: Detail, code: number, form: HTMLFormElement): Child[] {
    const command = (op: string) => () => this.host.command(op, { action: detail.name });
    const toggle = (): void => {
      show(form, form.hidden);
      if (!form.hidden) form.querySelector("input")?.focus();
    };
    const condition = detail.kind === "condition";
    const buttons: Child[] = [];
    if (!isTerminal(code)) buttons.push(button("Cancel action", command("cancel_action")));
    if (condition) return buttons;
    if (!isTerminal(code)) buttons.push(button("Stack", () => this.ask("stack", detail.name)));
    if (detail.note.startsWith("breakpoint")) return buttons; // its debugger decides
    if (isFailure(code) || [P.PAUSED, P.ABORTED, P.ABANDONED].includes(code))
      buttons.push(button("Retry", command("retry_action"), "fnb-primary"));
    if (code === P.PAUSED) buttons.push(button("Resume with…", toggle), button("Raise", command("raise")));
    return buttons;
  }

  private ask(op: string, action: string): void {
    const tell = (text: string): void => {
      this.answered = { of: action, text };
      setText(this.out, text);
      show(this.out, true);
    };
    this.host.ask(op, { action }).then(tell, (error: Error) => tell(error.message));
  }

  private hint({ label, code }: { label: string; code: string }): HTMLElement {
    return h(
      "div",
      { class: "fnb-hint" },
      h("code", { title: label }, code),
      h(
        "button",
        { class: "fnb-link", type: "button", "aria-label": `Copy ${code}`, onclick: () => this.host.copy(code) },
        "copy",
      ),
      h("span", { class: "fnb-muted fnb-hintsaid", title: label }, label),
    );
  }
}

const button = (label: string, run: () => void, extra = ""): HTMLElement =>
  h("button", { class: `fnb-btn ${extra}`.trim(), type: "button", onclick: run }, label);

/** Which value a paused action shall succeed with: an expression, with the notebook's names. */
function resumeForm(send: (value: string) => void): HTMLFormElement {
  const input = h("input", {
    class: "fnb-input",
    type: "text",
    "aria-label": "Value to resume with",
    placeholder: "a value: 0.5, 'text', better[3], pd.DataFrame()",
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
