/** Dock: a run beside the notebook, where it stays in sight whatever is scrolled; no extension of the front end is needed. */

import { h } from "./dom.ts";
import { icon } from "./icons.ts";

/** Narrowest, in pixels, and what of the window is left to the notebook. */
const LEAST = 300;
const LEFT = 200;

/** Show the live view with this identity beside the notebook, in place of another one. */
export function dock(view: string, title: string): void {
  for (const old of document.querySelectorAll(".fnb-dock")) old.remove();
  const grip = h("div", { class: "fnb-dockgrip" });
  const close = h(
    "button",
    { class: "fnb-btn fnb-more", type: "button", "aria-label": "Close the dock", onclick: () => el.remove() },
    icon("close"),
  );
  const el = h(
    "div",
    { class: "fnb-dock", role: "group", "aria-label": "Run beside the notebook", "data-testid": "fnb-dock" },
    grip,
    h("div", { class: "fnb-dockhead" }, h("span", { class: "fnb-title", title }, title), close),
    // As below a cell: whoever has the run puts its view over this.
    h("div", { class: "flyte-nb-static fnb-dockview", "data-flyte-view": view }),
  );
  grip.addEventListener("pointerdown", (down) => {
    grip.setPointerCapture(down.pointerId);
    const from = el.offsetWidth + down.clientX;
    grip.onpointermove = (move) => {
      el.style.width = `${Math.max(LEAST, Math.min(window.innerWidth - LEFT, from - move.clientX))}px`;
    };
    grip.onpointerup = () => {
      grip.onpointermove = null;
    };
  });
  document.body.append(el);
}
