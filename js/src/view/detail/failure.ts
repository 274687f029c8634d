/** Failure in the panel: the error, the user's frames with source and variables, the full traceback. */

import { number } from "../../format.ts";
import type { Detail, ErrorNote, Frame } from "../../protocol.ts";
import { type Child, h } from "../dom.ts";
import { placed } from "../places.ts";
import { pairs, section } from "./section.ts";

/** An error with its traceback, or in one line where it has none. */
export const errorText = ({ error, failure }: Detail): string =>
  failure?.text || (error ? `${error.code}: ${error.message}` : "");

export function failureSection(detail: Detail, copy: (text: string) => void): Child {
  const { error, failure } = detail;
  if (!error && !failure) return null;
  return section(
    "Error",
    h(
      "button",
      {
        class: "fnb-link fnb-copyerror",
        type: "button",
        "data-testid": "fnb-copy-error",
        onclick: () => copy(errorText(detail)),
      },
      "Copy error",
    ),
    error && headOf(error),
    failure && framesOf(failure.frames),
    failure?.text ? tracebackOf(failure.text) : null,
  );
}

const headOf = (error: ErrorNote): HTMLElement =>
  h(
    "div",
    { class: "fnb-errhead" },
    h("strong", {}, error.code),
    messageOf(error.message),
    error.where ? h("div", { class: "fnb-muted" }, placed(error.where)) : null,
  );

/** Lines of a message that are shown; the rest is unfolded, so that frames and variables stay in sight. */
const MESSAGE_LINES = 10;

function messageOf(message: string): Child {
  const lines = message.split("\n");
  if (lines.length <= MESSAGE_LINES) return h("span", { class: "fnb-errtext" }, message);
  const rest = lines.slice(MESSAGE_LINES);
  return [
    h("span", { class: "fnb-errtext" }, lines.slice(0, MESSAGE_LINES).join("\n")),
    h(
      "details",
      { class: "fnb-errmore" },
      h("summary", {}, `${number(rest.length)} more line${rest.length > 1 ? "s" : ""}`),
      h("span", { class: "fnb-errtext" }, rest.join("\n")),
    ),
  ];
}

const tracebackOf = (text: string): HTMLElement =>
  h("details", {}, h("summary", {}, "Full traceback"), h("pre", { class: "fnb-pre" }, text));

/** The user's frames; those of libraries between them are folded. */
function framesOf(frames: Frame[]): Child {
  const out: Child[] = [];
  let folded: Frame[] = [];
  const flush = () => {
    if (folded.length) out.push(foldOf(folded));
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
    out.push(frameOf(frame, opened.includes(i)));
  });
  flush();
  return out;
}

const foldOf = (frames: Frame[]): HTMLElement =>
  h(
    "details",
    { class: "fnb-folded" },
    h("summary", { class: "fnb-muted" }, `${number(frames.length)} library frame${frames.length > 1 ? "s" : ""}`),
    frames.map((frame) => frameOf(frame, false)),
  );

function frameOf(frame: Frame, open: boolean): HTMLElement {
  const file = frame.file.slice(frame.file.lastIndexOf("/") + 1);
  const variables = Object.entries(frame.locals);
  const place = placed(`${file}:${frame.line}`);
  const linked = typeof place !== "string";
  const details = h(
    "details",
    { class: "fnb-frame", open },
    h(
      "summary",
      { title: frame.file },
      h("code", {}, frame.function || "?"),
      linked ? null : h("span", { class: "fnb-muted" }, ` ${file}:${frame.line}`),
    ),
    frame.source ? sourceOf(frame.source) : null,
    variables.length ? pairs("fnb-locals", variables) : null,
  );
  // Beside the summary, which is a button itself.
  return linked ? h("div", { class: "fnb-framebox" }, details, place) : details;
}

/** Lines of source, the failing one (marked by Python with a ">") in colour. */
function sourceOf(source: string): HTMLElement {
  const lines = source
    .split("\n")
    .map((line) => h("div", { class: line.startsWith(">") ? "fnb-failing" : null }, line || " "));
  return h("div", { class: "fnb-source", tabindex: 0, role: "group", "aria-label": "Source" }, lines);
}
