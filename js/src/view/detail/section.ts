/** Sections of the panel: title, columns of names and values, frames for HTML. */

import { type Child, h } from "../dom.ts";

export function section(title: string, ...children: Child[]): HTMLElement {
  // No landmark: with several views on a page there would be dozens of the same name.
  return h(
    "div",
    { class: "fnb-section", role: "group", "aria-label": title },
    h("div", { class: "fnb-h" }, title),
    children,
  );
}

/** First in each frame: nothing is fetched over the network, so that a report tells nobody who reads it, and when. */
export const POLICY =
  '<meta http-equiv="Content-Security-Policy" ' +
  "content=\"default-src 'none'; img-src data:; font-src data:; media-src data:; style-src 'unsafe-inline'\">";

/** A user's HTML: in a frame of its own without script and network, so that it can't touch the page. */
export function htmlFrame(page: string, title: string, height = 220): HTMLElement {
  const frame = h("iframe", {
    class: "fnb-frame-html",
    sandbox: "",
    title,
    referrerpolicy: "no-referrer",
    style: { height: `${height}px` },
  });
  frame.srcdoc = `${POLICY}<style>body{font:13px/1.5 system-ui,sans-serif;margin:8px}</style>${page}`;
  return frame;
}

/** Names and what belongs to each, in two columns. */
export const pairs = (of: string, entries: [string, Child][]): HTMLElement =>
  h(
    "div",
    { class: of },
    entries.map(([name, value]) => [
      h("div", { class: "fnb-k", title: name }, name),
      h("div", { class: "fnb-v" }, value),
    ]),
  );
