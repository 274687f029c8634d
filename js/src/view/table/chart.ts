/** Chart on a canvas: a histogram, points of one column against another, or a line for each call through several axes. */

import { number } from "../../format.ts";
import { colorsOf, h, setAttr, setText } from "../dom.ts";
import { Tip } from "../tip.ts";
import { range, type Scale } from "./scale.ts";

const HEIGHT = 190;
const LEFT = 58;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 22;
/** Pixels from the pointer within which a point is told. */
const NEAR = 14;
const FONT = "11px system-ui, sans-serif";

/** What of a picture is below the pointer. */
export interface Hit {
  text: string;
  x: number;
  y: number;
  choose(): void;
}

export interface Ink {
  context: CanvasRenderingContext2D;
  width: number;
  height: number;
  /** Left, top, width and height of what is between the axes. */
  box: [number, number, number, number];
  muted: string;
  line: string;
  mark: string;
  low: string;
  ground: string;
}

/** What a chart draws, and what it says of the place of a pointer. */
export interface Picture {
  /** Name and summary, for everyone. */
  title: string;
  said: string;
  draw(ink: Ink): void;
  hit(x: number, y: number, ink: Ink): Hit | undefined;
}

export class Chart {
  readonly el: HTMLElement;
  private readonly canvas = h("canvas", {});
  private readonly title = h("strong", {});
  private readonly said = h("span", { class: "fnb-muted" });
  private readonly tip = new Tip();
  private picture: Picture | null = null;
  private ink: Ink | null = null;
  private drawn = "";
  private found: Hit | undefined;
  /** Where the pointer is, while it is over the picture. */
  private pointer: PointerEvent | null = null;

  constructor() {
    const frame = h("div", { class: "fnb-chartframe", role: "img" }, this.canvas, this.tip.el);
    this.el = h("figure", { class: "fnb-chart" }, frame, h("figcaption", {}, this.title, this.said));
    frame.addEventListener("pointermove", (event) => this.hover(event));
    frame.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.tell(undefined);
    });
    frame.addEventListener("click", () => this.found?.choose());
  }

  set(picture: Picture): void {
    this.picture = picture;
    this.drawn = "";
    setText(this.title, picture.title);
    setText(this.said, picture.said);
    setAttr(this.el.firstElementChild as Element, "aria-label", `${picture.title}: ${picture.said}`);
    this.tip.hide();
    this.draw();
    if (this.pointer) this.hover(this.pointer);
  }

  /** Draw, if the place or its colours have changed. */
  draw(): void {
    const { picture, canvas } = this;
    const width = (this.el.firstElementChild as HTMLElement).clientWidth;
    if (!picture || !width || !this.el.isConnected) return;
    const [muted = "", line = "", mark = "", low = "", ground = ""] = colorsOf(this.el, [
      "--fnb-muted",
      "--fnb-line",
      "--fnb-h-3",
      "--fnb-h-4",
      "--fnb-ground",
    ]);
    const ratio = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
    const key = `${width} ${ratio} ${muted} ${line} ${mark}`;
    if (key === this.drawn) return;
    this.drawn = key;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    Object.assign(canvas.style, { width: `${width}px`, height: `${HEIGHT}px` });
    const context = canvas.getContext("2d");
    if (!context) return;
    context.scale(ratio, ratio);
    context.font = FONT;
    const box: Ink["box"] = [LEFT, TOP, Math.max(10, width - LEFT - RIGHT), HEIGHT - TOP - BOTTOM];
    this.ink = { context, width, height: HEIGHT, box, muted, line, mark, low, ground };
    picture.draw(this.ink);
  }

  private hover(event: PointerEvent): void {
    this.pointer = event;
    if (!this.picture || !this.ink) return;
    const frame = this.canvas.getBoundingClientRect();
    this.tell(this.picture.hit(event.clientX - frame.left, event.clientY - frame.top, this.ink));
  }

  private tell(found: Hit | undefined): void {
    this.found = found;
    this.el.classList.toggle("fnb-hits", found !== undefined);
    if (!found) {
      this.tip.hide();
      return;
    }
    const frame = this.canvas.getBoundingClientRect();
    this.tip.say(found.text, frame.left + found.x, frame.top + found.y);
  }
}

/** Axis below the picture. */
function drawX(ink: Ink, scale: Scale): void {
  const { context, box } = ink;
  const [left, top, width, height] = box;
  context.fillStyle = ink.muted;
  context.textAlign = "center";
  context.textBaseline = "top";
  rule(ink, left, top + height + 0.5, left + width, top + height + 0.5);
  for (const { at, text } of scale.ticks(width / 80)) {
    const x = left + at * width;
    rule(ink, x, top + height, x, top + height + 4);
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(x, ink.width - half - 1), top + height + 6, 90);
  }
}

/** Axis to the left of it. */
function drawY(ink: Ink, scale: Scale, x = ink.box[0], lines = true): void {
  const { context, box } = ink;
  const [, top, width, height] = box;
  context.fillStyle = ink.muted;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.strokeStyle = ink.ground;
  context.lineWidth = 3;
  for (const { at, text } of scale.ticks(height / 34)) {
    const y = Math.round(top + height - at * height) + 0.5;
    if (lines) rule(ink, x, y, x + width, y);
    if (!lines) context.strokeText(cut(context, text, LEFT - 10), x - 6, y); // over what is drawn
    context.fillText(cut(context, text, LEFT - 10), x - 6, y);
  }
}

function rule({ context, line }: Ink, x0: number, y0: number, x1: number, y1: number): void {
  context.strokeStyle = line;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function cut(context: CanvasRenderingContext2D, text: string, width: number): string {
  let shown = text;
  while (shown.length > 2 && context.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
  return shown;
}

export interface Bin {
  low: number;
  high: number;
  n: number;
}

/** Bins of equal width on the scale. */
export function bins(values: Float64Array, scale: Scale, wanted: number): Bin[] {
  const [min, max] = range(values);
  const first = scale.at(min);
  const span = scale.at(max) - first || 1;
  const out = Array.from({ length: wanted }, (_, i) => ({
    low: scale.value(first + (i / wanted) * span),
    high: scale.value(first + ((i + 1) / wanted) * span),
    n: 0,
  }));
  for (const value of values) {
    const at = Math.min(wanted - 1, Math.floor(((scale.at(value) - first) / span) * wanted));
    (out[at] as Bin).n++;
  }
  return out;
}

export function histogram(
  title: string,
  said: string,
  found: Bin[],
  x: Scale,
  y: Scale,
  choose: (bin: Bin) => void,
): Picture {
  const place = (bin: Bin, [left, , width]: Ink["box"]): [number, number] => [
    left + x.at(bin.low) * width,
    left + x.at(bin.high) * width,
  ];
  return {
    title,
    said,
    draw(ink) {
      drawY(ink, y);
      const { context, box } = ink;
      const [, top, , height] = box;
      context.fillStyle = ink.mark;
      for (const bin of found) {
        if (!bin.n) continue;
        const [from, to] = place(bin, box);
        const tall = Math.max(1, y.at(bin.n) * height);
        const gap = to - from > 3 ? 1 : 0;
        context.fillRect(from, top + height - tall, Math.max(1, to - from - gap), tall);
      }
      drawX(ink, x);
    },
    hit(px, _py, { box }) {
      const bin = found.find((one) => {
        const [from, to] = place(one, box);
        return px >= from && px < to;
      });
      if (!bin?.n) return undefined;
      const [from] = place(bin, box);
      return {
        text: `${x.text(bin.low)} to ${x.text(bin.high)}: ${number(bin.n)}`,
        x: from,
        y: box[1] + 14,
        choose: () => choose(bin),
      };
    },
  };
}

export interface PlotAxis {
  name: string;
  values: Float64Array;
  scale: Scale;
}

export function scatter(
  title: string,
  said: string,
  ids: Uint32Array,
  x: PlotAxis,
  y: PlotAxis,
  choose: (id: number) => void,
): Picture {
  const placeX = (i: number, [left, , width]: Ink["box"]): number => left + x.scale.at(x.values[i] as number) * width;
  const placeY = (i: number, [, top, , height]: Ink["box"]): number =>
    top + height - y.scale.at(y.values[i] as number) * height;
  return {
    title,
    said,
    draw(ink) {
      drawY(ink, y.scale);
      const { context, box } = ink;
      context.fillStyle = ink.mark;
      context.globalAlpha = ids.length > 2_000 ? 0.3 : ids.length > 200 ? 0.55 : 0.85;
      const side = ids.length > 5_000 ? 2 : ids.length > 500 ? 4 : 6;
      for (let i = 0; i < ids.length; i++) {
        context.beginPath();
        context.arc(placeX(i, box), placeY(i, box), side / 2, 0, 7);
        context.fill();
      }
      context.globalAlpha = 1;
      drawX(ink, x.scale);
    },
    hit(px, py, { box }) {
      let best = -1;
      let near = NEAR * NEAR;
      for (let i = 0; i < ids.length; i++) {
        const far = (placeX(i, box) - px) ** 2 + (placeY(i, box) - py) ** 2;
        if (far < near) {
          near = far;
          best = i;
        }
      }
      if (best < 0) return undefined;
      const told = [x, y].map((axis) => `${axis.name} ${axis.scale.text(axis.values[best] as number)}`);
      const id = ids[best] as number;
      return {
        text: `a${id} · ${told.join(" · ")}`,
        x: placeX(best, box),
        y: placeY(best, box),
        choose: () => choose(id),
      };
    },
  };
}

/** A line for each call through all axes, the last of which gives its colour. */
export function parallel(
  title: string,
  said: string,
  ids: Uint32Array,
  axes: PlotAxis[],
  choose: (id: number) => void,
): Picture {
  const placeX = (at: number, [left, , width]: Ink["box"]): number =>
    left + (axes.length > 1 ? (at / (axes.length - 1)) * width : 0);
  const placeY = (axis: PlotAxis, i: number, [, top, , height]: Ink["box"]): number =>
    top + height - axis.scale.at(axis.values[i] as number) * height;
  const last = axes.at(-1) as PlotAxis;
  return {
    title,
    said,
    draw(ink) {
      const { context, box } = ink;
      context.lineWidth = 1;
      context.globalAlpha = ids.length > 500 ? 0.12 : ids.length > 60 ? 0.35 : 0.7;
      for (let i = 0; i < ids.length; i++) {
        const share = last.scale.at(last.values[i] as number);
        context.strokeStyle = share < 0.5 ? ink.mark : ink.low;
        context.beginPath();
        axes.forEach((axis, at) => {
          context.lineTo(placeX(at, box), placeY(axis, i, box));
        });
        context.stroke();
      }
      context.globalAlpha = 1;
      axes.forEach((axis, at) => {
        const x = placeX(at, box);
        rule({ ...ink, line: ink.muted }, x, box[1], x, box[1] + box[3]);
        drawY(ink, axis.scale, x, false);
        context.textAlign = at === 0 ? "left" : at === axes.length - 1 ? "right" : "center";
        context.textBaseline = "top";
        context.fillText(cut(context, axis.name, box[2] / axes.length), at === 0 ? x - 40 : x, box[1] + box[3] + 6);
      });
    },
    hit(px, py, { box }) {
      const at = Math.round(((px - box[0]) / box[2]) * (axes.length - 1));
      const axis = axes[at];
      if (!axis || Math.abs(placeX(at, box) - px) > NEAR) return undefined;
      let best = -1;
      let near = NEAR;
      for (let i = 0; i < ids.length; i++) {
        const far = Math.abs(placeY(axis, i, box) - py);
        if (far < near) {
          near = far;
          best = i;
        }
      }
      if (best < 0) return undefined;
      const id = ids[best] as number;
      const told = axes.map((one) => `${one.name} ${one.scale.text(one.values[best] as number)}`);
      return {
        text: `a${id} · ${told.join(" · ")}`,
        x: placeX(at, box),
        y: placeY(axis, best, box),
        choose: () => choose(id),
      };
    },
  };
}
