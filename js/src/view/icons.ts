/** Icons: phases, and a few controls. 16 x 16, stroked in the current colour. */

import { P, PHASE_NAMES, type PhaseName } from "../phases.ts";
import { svg } from "./dom.ts";

const RING = "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6Z";
const DISC = { d: RING, fill: "currentColor", stroke: "none" };
const MARK = { stroke: "var(--fnb-ground)", "stroke-width": 1.7 };

type Shape = Record<string, string | number>;

const PHASE_SHAPES: Record<PhaseName, Shape[]> = {
  QUEUED: [{ d: RING, "stroke-dasharray": "1.6 2.05" }],
  WAITING_FOR_RESOURCES: [{ d: RING }, { d: "M8 4.8V8h2.4" }],
  INITIALIZING: [{ d: RING, "stroke-dasharray": "4 3.3" }],
  RUNNING: [
    { d: RING, opacity: 0.28, "stroke-width": 2 },
    { d: "M8 2.2a5.8 5.8 0 0 1 5.8 5.8", "stroke-width": 2 },
  ],
  PAUSED: [DISC, { d: "M6.5 5.6v4.8M9.5 5.6v4.8", ...MARK }],
  CANCELLING: [{ d: RING, "stroke-dasharray": "4 3.3" }, { d: "M6 6l4 4M10 6l-4 4" }],
  SUCCEEDED: [DISC, { d: "M5.3 8.2l1.9 1.9 3.6-3.9", ...MARK }],
  FAILED: [DISC, { d: "M5.9 5.9l4.2 4.2M10.1 5.9l-4.2 4.2", ...MARK }],
  ABORTED: [{ d: RING }, { d: "M4 12L12 4" }],
  TIMED_OUT: [DISC, { d: "M8 4.9V8l2.2 1.5", ...MARK }],
  RECOVERED: [{ d: "M3 8a5 5 0 1 0 1.6-3.7M3 2.8v2.7h2.7" }],
  ABANDONED: [{ d: RING }, { d: "M6.6 6.4a1.5 1.5 0 1 1 2.2 1.3c-.6.3-.8.6-.8 1.2M8 10.9v.2" }],
};

const SHAPES = {
  closed: [{ d: "M6.2 4.2L10 8l-3.8 3.8" }],
  menu: [{ d: "M3.5 8h.01M8 8h.01M12.5 8h.01", "stroke-width": 2.4 }],
  close: [{ d: "M4.5 4.5l7 7M11.5 4.5l-7 7" }],
  table: [{ d: "M2.5 3.5h11v9h-11ZM2.5 6.5h11M6.5 6.5v6", "stroke-width": 1.3 }],
  cache: [{ d: "M8.8 2L4 9h3.6L7.2 14 12 7H8.4Z", fill: "currentColor", stroke: "none" }],
} satisfies Record<string, Shape[]>;

function draw(shapes: Shape[], name: string): SVGElement {
  const el = svg("svg", {
    viewBox: "0 0 16 16",
    class: `fnb-icon fnb-icon-${name}`,
    "aria-hidden": "true",
    focusable: "false",
  });
  for (const shape of shapes) el.append(svg("path", shape));
  return el;
}

export const phaseIcon = (code: number): SVGElement =>
  draw(
    PHASE_SHAPES[PHASE_NAMES[code] as PhaseName] ?? [],
    `phase fnb-p-${code} ${code === P.RUNNING ? "fnb-spin" : ""}`.trim(),
  );

export const icon = (name: keyof typeof SHAPES): SVGElement => draw(SHAPES[name], name);
