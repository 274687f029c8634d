/**
 * Dock: a run beside the notebook, where it stays in sight whatever is scrolled. In a panel of the front end's own where our
 * extension of it (js/lab) is loaded, else in one of ours over the page's right side.
 */

import { h } from "./dom.ts";
import { icon } from "./icons.ts";

/** Narrowest, in pixels, and what of the window is left to the notebook. */
const LEAST = 300;
const LEFT = 200;

type MakePanel = (title: string, node: HTMLElement) => Promise<void>;

/** Show the live view with this identity beside the notebook. */
export function dock(view: string, title: string): void {
  // As below a cell: whoever has the run puts its view over this.
  const place = h("div", { class: "flyte-nb-static fnb-dockview", "data-flyte-view": view });
  const make = (window as { flyteNbPanel?: MakePanel }).flyteNbPanel;
  if (make)
    make(title, h("div", { class: "fnb-panel", "data-testid": "fnb-panel" }, place)).catch(() => overlay(place, title));
  else overlay(place, title);
}

/** In place of another one. */
function overlay(place: HTMLElement, title: string): void {
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
    place,
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
