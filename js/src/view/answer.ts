/** Answer to a condition: two buttons for yes or no, a field for anything else. */

import type { Asks } from "../protocol.ts";
import { h } from "./dom.ts";

/** A form that is made once and lives through updates, so that what was typed stays. */
export function answerForm(asks: Asks | undefined, label: string, send: (value: string) => void): HTMLFormElement {
  const type = asks?.type ?? "str";
  if (type === "bool") {
    const button = (word: string, extra: string): HTMLElement =>
      h(
        "button",
        {
          class: `fnb-btn ${extra}`.trim(),
          type: "button",
          "aria-label": `${word}: ${label}`,
          "data-testid": `fnb-answer-${word.toLowerCase()}`,
          onclick: () => send(word.toLowerCase()),
        },
        word,
      );
    const form = h("form", { class: "fnb-signal" }, button("Yes", "fnb-primary"), button("No", ""));
    form.addEventListener("submit", (event) => event.preventDefault());
    return form;
  }
  const numeric = type === "int" || type === "float";
  const input = h("input", {
    class: "fnb-input",
    type: numeric ? "number" : "text",
    step: type === "float" ? "any" : null,
    "aria-label": `Answer to ${label}`,
    placeholder: numeric ? (type === "int" ? "whole number" : "number") : "answer",
    "data-testid": "fnb-signal",
  });
  const form = h(
    "form",
    { class: "fnb-signal" },
    input,
    h("button", { class: "fnb-btn fnb-primary", type: "submit" }, "Send"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value || !numeric) send(input.value);
  });
  return form;
}
