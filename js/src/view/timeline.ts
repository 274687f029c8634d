/** Timeline: a lane per worker slot, so that idle slots and stragglers are seen. */

import { duration, number } from "../format.ts";
import { bytes, type RunModel } from "../model.ts";
import { isFailure, phaseWord } from "../phases.ts";
import { colorsOf, h, setAttr, setText } from "./dom.ts";
import { phaseColors } from "./palette.ts";
import { Tip } from "./tip.ts";

const GUTTER = 86;
/** Narrowest a failure is drawn, in pixels: 20 ms between two long spans must be seen. */
const LEAST_FAILURE = 3;
const AXIS = 20;
const FIELDS = 7;
/** Added to the phase code of actions that have children. */
const PARENT = 16;

export interface TimelineData {
  lanes: [string, string, number][];
  n: number;
  left_out: number;
  end: number;
  spans: Float32Array;
}

export function parseTimeline(reply: Record<string, unknown>, buffers: DataView[]): TimelineData {
  const raw = buffers[0] ? bytes(buffers[0]) : new Uint8Array();
  // Copied: a Float32Array must start at a multiple of four, which a received buffer needn't.
  const spans = new Float32Array(raw.slice().buffer);
  const sent = reply.lanes as [string, string, number][];
  // By the numbers that workers have everywhere else, not by which of them was first here.
  const order = sent.map((_, i) => i).sort((i, j) => (sent[i]?.[2] ?? 0) - (sent[j]?.[2] ?? 0) || i - j);
  const rank = new Map(order.map((was, now) => [was, now]));
  for (let at = 0; at < spans.length; at += FIELDS) spans[at] = rank.get(spans[at] as number) ?? 0;
  return {
    lanes: order.map((i) => sent[i] as [string, string, number]),
    n: Number(reply.n),
    left_out: Number(reply.left_out),
    end: Number(reply.end),
    spans,
  };
}

export interface TimelineHost {
  /** Fetch the spans of what is `wanted`. */
  fetch(): void;
  openNumber(id: number): void;
  labelOfNumber(id: number, then: (label: string) => void): void;
}

export class TimelineView {
  readonly el: HTMLElement;
  private readonly canvas = h("canvas", { class: "fnb-tl-canvas" });
  private readonly box: HTMLElement;
  private readonly tip = new Tip();
  private readonly said = h("span", { class: "fnb-muted" });
  private data: TimelineData | null = null;
  private window: [number, number] | null = null;
  private hovered = -1;
  private drag: { x: number; from: [number, number]; moved: boolean } | null = null;
  private fetchTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly model: RunModel,
    private readonly host: TimelineHost,
  ) {
    const button = (text: string, label: string, run: () => void) =>
      h("button", { class: "fnb-btn", type: "button", "aria-label": label, title: label, onclick: run }, text);
    const tools = h(
      "div",
      { class: "fnb-tools" },
      this.said,
      h("span", { class: "fnb-space" }),
      button("−", "Zoom out", () => this.zoom(2, 0.5)),
      button("+", "Zoom in", () => this.zoom(0.5, 0.5)),
      button("Fit", "Show the whole run", () => this.setWindow(null)),
    );
    this.box = h(
      "div",
      {
        class: "fnb-scroll fnb-tl",
        tabindex: 0,
        role: "img",
        "aria-label": "Timeline, being fetched",
        "data-testid": "fnb-timeline",
      },
      this.canvas,
      this.tip.el,
    );
    this.el = h("div", { class: "fnb-timeline" }, tools, this.box);
    this.box.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.box.addEventListener("pointerdown", (event) => this.onDown(event));
    this.box.addEventListener("pointermove", (event) => this.onMove(event));
    this.box.addEventListener("pointerup", () => this.onUp());
    this.box.addEventListener("pointerleave", () => this.hover(-1, 0, 0));
    this.box.addEventListener("keydown", (event) => this.onKey(event));
  }

  take(data: TimelineData): void {
    this.data = data;
    this.draw();
  }

  private get end(): number {
    return Math.max(0.01, this.model.running ? this.model.elapsed() : (this.data?.end ?? 0));
  }

  private get view(): [number, number] {
    return this.window ?? [0, this.end];
  }

  private get lane(): number {
    const n = this.data?.lanes.length ?? 1;
    return n <= 12 ? 22 : n <= 40 ? 14 : 8;
  }

  draw(): void {
    const data = this.data;
    if (!data) return;
    const ratio = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
    const width = Math.max(200, this.box.clientWidth - 2);
    const height = AXIS + data.lanes.length * this.lane + 6;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    }
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.el);
    const [ink = "#777", faint = "#8882"] = colorsOf(this.el, ["--fnb-muted", "--fnb-track"]);
    context.font = `11px ${style.fontFamily}`;
    this.drawAxis(context, width, height, ink, faint);
    const busy = this.drawSpans(context, width, faint, style);
    this.drawLanes(context, ink, busy);
    const workers = new Set(data.lanes.map(([worker]) => worker)).size;
    setText(
      this.said,
      `${number(data.lanes.length)} lane${data.lanes.length === 1 ? "" : "s"} on ${number(workers)} worker${workers === 1 ? "" : "s"} · ${number(data.n)} spans${data.left_out ? ` · ${number(data.left_out)} left out, zoom in` : ""}`,
    );
    setAttr(
      this.box,
      "aria-label",
      `Timeline of ${data.lanes.length} lanes over ${duration(this.end)}. Plus and minus zoom, arrow keys move.`,
    );
  }

  private x(at: number, width: number): number {
    const [low, high] = this.view;
    return GUTTER + ((at - low) / (high - low)) * (width - GUTTER - 8);
  }

  private drawAxis(context: CanvasRenderingContext2D, width: number, height: number, ink: string, faint: string): void {
    const [low, high] = this.view;
    const step = niceStep((high - low) / Math.max(2, Math.floor((width - GUTTER) / 90)));
    context.fillStyle = ink;
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (let at = Math.ceil(low / step) * step; at <= high; at += step) {
      const x = Math.round(this.x(at, width));
      context.fillStyle = faint;
      context.fillRect(x, AXIS, 1, height - AXIS);
      context.fillStyle = ink;
      if (x < width - 20) context.fillText(axisLabel(at, step), x, AXIS / 2);
    }
  }

  private drawSpans(
    context: CanvasRenderingContext2D,
    width: number,
    faint: string,
    style: CSSStyleDeclaration,
  ): number[] {
    const data = this.data as TimelineData;
    const [low, high] = this.view;
    const lane = this.lane;
    const gap = lane > 10 ? 3 : 1;
    const busy: number[] = new Array(data.lanes.length).fill(0);
    context.fillStyle = faint;
    for (let i = 0; i < data.lanes.length; i++)
      context.fillRect(GUTTER, AXIS + i * lane + gap, width - GUTTER - 8, lane - 2 * gap);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width - GUTTER - 8, 1e5);
    context.clip();
    const colors = phaseColors(this.el);
    for (const parents of [true, false]) {
      for (let i = 0; i < data.n; i++) {
        const at = i * FIELDS;
        const [row = 0, a = 0, b = 0, code = 0, , , held = 0] = data.spans.subarray(at, at + FIELDS);
        // An action that awaits its children holds no slot: it is a line below them.
        if (code >= PARENT !== parents) continue;
        const inView = b > a ? Math.max(0, Math.min(b, high) - Math.max(a, low)) / (b - a) : 0;
        if (!parents) busy[row] = (busy[row] ?? 0) + held * inView;
        if (b < low || a > high) continue;
        const left = this.x(a, width);
        const least = isFailure(code % PARENT) ? LEAST_FAILURE : 1;
        const wide = Math.max(least, this.x(b, width) - left);
        context.fillStyle = colors[code % PARENT] ?? "#888";
        const top = AXIS + row * lane + gap;
        const tall = lane - 2 * gap;
        if (parents) context.fillRect(left, top + tall - 2, wide, 2);
        else context.fillRect(left, top, wide > 3 ? wide - 0.75 : wide, tall - (lane > 10 ? 3 : 0));
      }
    }
    if (this.hovered >= 0) {
      const [row = 0, a = 0, b = 0] = data.spans.subarray(this.hovered * FIELDS, this.hovered * FIELDS + 3);
      context.strokeStyle = style.color;
      context.lineWidth = 1.5;
      const left = this.x(a, width);
      context.strokeRect(left, AXIS + row * lane + gap, Math.max(2, this.x(b, width) - left), lane - 2 * gap);
    }
    context.restore();
    return busy;
  }

  private drawLanes(context: CanvasRenderingContext2D, ink: string, busy: number[]): void {
    const lane = this.lane;
    if (lane < 10) return;
    const [low, high] = this.view;
    context.textBaseline = "middle";
    (this.data as TimelineData).lanes.forEach(([, slot, worker], i) => {
      const y = AXIS + i * lane + lane / 2;
      context.fillStyle = ink;
      context.textAlign = "left";
      context.fillText(`w${worker}·${slot || "0"}`, 8, y);
      context.textAlign = "right";
      const share = Math.min(1, (busy[i] ?? 0) / Math.max(0.001, Math.min(high, this.end) - low));
      context.fillText(`${Math.round(share * 100)}%`, GUTTER - 6, y);
    });
  }

  private setWindow(wanted: [number, number] | null): void {
    if (wanted) {
      const span = Math.min(this.end, Math.max(0.001, wanted[1] - wanted[0]));
      const low = Math.max(0, Math.min(wanted[0], this.end - span));
      wanted = span >= this.end * 0.999 ? null : [low, low + span];
    }
    this.window = wanted;
    this.draw();
    if (this.fetchTimer) clearTimeout(this.fetchTimer);
    this.fetchTimer = setTimeout(() => this.host.fetch(), 250);
  }

  /** The stretch of time on show, in seconds; null for the whole run. */
  get wanted(): [number, number] | null {
    return this.window;
  }

  private zoom(factor: number, anchor: number): void {
    const [low, high] = this.view;
    const at = low + (high - low) * anchor;
    this.setWindow([at - (at - low) * factor, at + (high - at) * factor]);
  }

  private onWheel(event: WheelEvent): void {
    // A plain wheel scrolls the notebook, as everywhere; with a modifier it zooms.
    if (!(event.ctrlKey || event.metaKey || event.altKey)) return;
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    const anchor = Math.max(0, Math.min(1, (event.clientX - box.left - GUTTER) / (box.width - GUTTER - 8)));
    this.zoom(event.deltaY < 0 ? 0.8 : 1.25, anchor);
  }

  private onDown(event: PointerEvent): void {
    this.drag = { x: event.clientX, from: this.view, moved: false };
    this.box.setPointerCapture(event.pointerId);
  }

  private onUp(): void {
    const drag = this.drag;
    this.drag = null;
    if (drag && !drag.moved && this.hovered >= 0 && this.data)
      this.host.openNumber(this.data.spans[this.hovered * FIELDS + 4] ?? 0);
  }

  private onMove(event: PointerEvent): void {
    const box = this.canvas.getBoundingClientRect();
    if (this.drag) {
      const moved = event.clientX - this.drag.x;
      if (Math.abs(moved) > 3) this.drag.moved = true;
      if (this.drag.moved && this.window) {
        const [low, high] = this.drag.from;
        const shift = (-moved / (box.width - GUTTER - 8)) * (high - low);
        this.setWindow([low + shift, high + shift]);
      }
      return;
    }
    this.hover(
      this.spanAt(event.clientX - box.left, event.clientY - box.top, box.width),
      event.clientX - box.left,
      event.clientY - box.top,
    );
  }

  private spanAt(x: number, y: number, width: number): number {
    const data = this.data;
    if (!data || x < GUTTER || y < AXIS) return -1;
    const row = Math.floor((y - AXIS) / this.lane);
    const [low, high] = this.view;
    const at = low + ((x - GUTTER) / (width - GUTTER - 8)) * (high - low);
    const near = ((high - low) / width) * 2;
    let found = -1;
    for (let i = 0; i < data.n; i++) {
      const k = i * FIELDS;
      if (data.spans[k] !== row || at < (data.spans[k + 1] ?? 0) - near || at > (data.spans[k + 2] ?? 0) + near)
        continue;
      found = i;
      if ((data.spans[k + 3] ?? 0) < PARENT) break;
    }
    return found;
  }

  private hover(index: number, x: number, y: number): void {
    const changed = index !== this.hovered;
    this.hovered = index;
    if (index < 0) this.tip.hide();
    if (index >= 0 && this.data) {
      const [, a = 0, b = 0, code = 0, id = 0, merged = 1] = this.data.spans.subarray(
        index * FIELDS,
        index * FIELDS + FIELDS,
      );
      const said = (label: string): void => {
        if (this.hovered !== index) return;
        const what = merged > 1 ? `${number(merged)} actions from ${label}` : label;
        const text = `${what} · ${phaseWord(code % PARENT)} · ${duration(b - a)} · at ${duration(a)}`;
        const box = this.canvas.getBoundingClientRect();
        this.tip.say(text, box.left + x, box.top + y);
      };
      if (changed) said(`a${id}`);
      if (changed) this.host.labelOfNumber(id, said);
    }
    if (changed) this.draw();
  }

  private onKey(event: KeyboardEvent): void {
    const [low, high] = this.view;
    const step = (high - low) / 10;
    if (event.key === "+" || event.key === "=") this.zoom(0.5, 0.5);
    else if (event.key === "-") this.zoom(2, 0.5);
    else if (event.key === "0") this.setWindow(null);
    else if (event.key === "ArrowLeft") this.setWindow([low - step, high - step]);
    else if (event.key === "ArrowRight") this.setWindow([low + step, high + step]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

export function niceStep(raw: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(raw, 1e-6)));
  for (const factor of [1, 2, 5, 10]) if (raw <= factor * power) return factor * power;
  return 10 * power;
}

function axisLabel(at: number, step: number): string {
  if (step >= 60) return duration(at);
  return `${at.toFixed(step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3)} s`;
}
