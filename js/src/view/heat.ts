/** Heat strip: one cell per action on a canvas, up to 100,000 and more at once. */

import { number, summary } from "../format.ts";
import { isFailure, P, PHASE_NAMES, type PhaseName, phaseWord } from "../phases.ts";
import { h, setAttr } from "./dom.ts";
import { Tip } from "./tip.ts";

/** Tallest strip of up to 2,000 cells, and of more, in CSS pixels. */
const LOW = 64;
const HIGH = 180;
const CELLS = [14, 12, 10, 8, 7, 6, 5, 4, 3, 2.5, 2, 1.5, 1];
/** Failures that get a mark larger than their cell, where cells are too small to be seen. */
const MAX_MARKS = 2_000;

export interface HeatLayout {
  /** Side of a cell in CSS pixels. */
  cell: number;
  cols: number;
  lines: number;
  height: number;
  /** Actions per cell: 1, unless there are more actions than pixels. */
  per: number;
}

/** The largest cells with which `n` of them fit. */
export function heatLayout(n: number, width: number): HeatLayout {
  const limit = n <= 2_000 ? LOW : HIGH;
  const fits = (side: number): boolean => Math.ceil(n / Math.max(1, Math.floor(width / side))) * side <= limit;
  const cell = CELLS.find(fits) ?? 1;
  const cols = Math.max(1, Math.min(n, Math.floor(width / cell)));
  const per = fits(cell) ? 1 : Math.ceil(n / (cols * limit));
  const lines = Math.max(1, Math.ceil(n / per / cols));
  return { cell, cols, lines, height: Math.ceil(lines * cell), per };
}

/** Of several actions in one cell the most urgent is shown. */
const URGENCY: Record<PhaseName, number> = {
  FAILED: 9,
  TIMED_OUT: 9,
  PAUSED: 8,
  CANCELLING: 6,
  RUNNING: 5,
  INITIALIZING: 4,
  WAITING_FOR_RESOURCES: 3,
  QUEUED: 3,
  ABORTED: 2,
  ABANDONED: 2,
  SUCCEEDED: 1,
  RECOVERED: 1,
};
const URGENCIES = PHASE_NAMES.map((name) => URGENCY[name]);

export interface HeatHost {
  /** Ask for the row of a cell; `then` gets its label. */
  peek(key: string, index: number, then: (label: string) => void): void;
  open(key: string, index: number): void;
  colors(): Uint32Array;
}

export class HeatStrip {
  readonly el: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly small: HTMLCanvasElement;
  private readonly tip = new Tip();
  private readonly cursor: HTMLElement;
  private layout: HeatLayout = heatLayout(1, 1);
  private n = 0;
  private at = -1;
  private key = "";
  private painted: Uint8Array | null = null;
  private phases: Uint8Array | undefined;
  private colors: Uint32Array | null = null;

  constructor(private readonly host: HeatHost) {
    this.canvas = h("canvas", {});
    this.small = document.createElement("canvas");
    this.cursor = h("div", { class: "fnb-heat-cursor", hidden: true });
    this.el = h(
      "div",
      { class: "fnb-heat", role: "slider", tabindex: 0, "aria-valuemin": 1 },
      this.canvas,
      this.cursor,
      this.tip.el,
    );
    this.el.addEventListener("pointermove", (event) => this.hover(this.indexAt(event)));
    this.el.addEventListener("pointerleave", () => this.hover(-1));
    this.el.addEventListener("blur", () => this.hover(-1));
    this.el.addEventListener("click", (event) => {
      // What is marked, not what is computed anew: a click's coordinates are whole pixels, and cells may be 2.5 wide.
      const index = this.at >= 0 ? this.at : this.indexAt(event);
      if (index >= 0) this.host.open(this.key, index);
    });
    this.el.addEventListener("keydown", (event) => this.onKey(event));
  }

  set(key: string, n: number, phases: Uint8Array | undefined, counts: number[], label: string, width: number): void {
    const layout = heatLayout(n, width);
    const moved =
      key !== this.key ||
      layout.cell !== this.layout.cell ||
      layout.cols !== this.layout.cols ||
      layout.lines !== this.layout.lines;
    this.key = key;
    this.n = n;
    this.layout = layout;
    this.phases = phases;
    setAttr(this.el, "aria-valuemax", String(n));
    setAttr(this.el, "aria-label", `${label}, one cell per action: ${summary(counts)}. Arrow keys move, Enter opens.`);
    if (this.at < 0) {
      setAttr(this.el, "aria-valuenow", "1");
      setAttr(this.el, "aria-valuetext", `${number(n)} actions`);
    }
    this.paint(phases, moved);
  }

  private paint(phases: Uint8Array | undefined, moved: boolean): void {
    const { cols, lines, cell, height } = this.layout;
    const colors = this.host.colors();
    const total = cols * lines;
    if (!moved && this.painted && phases && this.colors === colors && same(this.painted, phases, this.n)) return;
    this.colors = colors;
    this.painted = phases ? phases.slice(0, this.n) : new Uint8Array(this.n);
    if (moved || this.small.width !== cols || this.small.height !== lines) {
      this.small.width = cols;
      this.small.height = lines;
    }
    const image = new ImageData(cols, lines);
    const pixels = new Uint32Array(image.data.buffer, 0, total);
    const codes = this.painted;
    const { per } = this.layout;
    if (per === 1) for (let i = 0; i < this.n; i++) pixels[i] = colors[codes[i] as number] as number;
    else
      for (let at = 0, i = 0; i < this.n; at++) {
        let code = codes[i] as number;
        for (const stop = Math.min(this.n, i + per); i < stop; i++)
          if ((URGENCIES[codes[i] as number] ?? 0) > (URGENCIES[code] ?? 0)) code = codes[i] as number;
        pixels[at] = colors[code] as number;
      }
    this.small.getContext("2d")?.putImageData(image, 0, 0);
    const ratio = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
    const wide = Math.round(cols * cell * ratio);
    const tall = Math.round(height * ratio);
    if (this.canvas.width !== wide || this.canvas.height !== tall) {
      this.canvas.width = wide;
      this.canvas.height = tall;
      Object.assign(this.canvas.style, { width: `${cols * cell}px`, height: `${height}px` });
    }
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, wide, tall);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small, 0, 0, cols, lines, 0, 0, wide, Math.round(lines * cell * ratio));
    if (cell >= 4) this.grid(context, ratio);
    else if (cell < 3) this.marks(context, ratio, codes);
  }

  /** One failed action among 100,000 must be seen. */
  private marks(context: CanvasRenderingContext2D, ratio: number, codes: Uint8Array): void {
    const { cols, cell, per } = this.layout;
    const failed: number[] = [];
    for (let i = 0; i < codes.length && failed.length <= MAX_MARKS; i++)
      if (isFailure(codes[i] as number)) failed.push(Math.floor(i / per));
    if (failed.length > MAX_MARKS) return;
    const side = 3 * ratio;
    // Not from this element's style: on its first paint it is not in the page yet.
    const [r, g, b] = new Uint8Array(this.host.colors().buffer, 4 * P.FAILED, 3);
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    for (const at of failed) {
      const x = ((at % cols) + 0.5) * cell * ratio - side / 2;
      const y = (Math.floor(at / cols) + 0.5) * cell * ratio - side / 2;
      context.fillRect(Math.round(x), Math.round(y), side, side);
    }
  }

  /** Gaps between cells, where they are large enough to have some. */
  private grid(context: CanvasRenderingContext2D, ratio: number): void {
    const { cols, lines, cell } = this.layout;
    const gap = Math.max(1, Math.round((cell >= 8 ? 1.5 : 1) * ratio));
    const side = cell * ratio;
    for (let x = 1; x <= cols; x++) context.clearRect(Math.round(x * side) - gap, 0, gap, lines * side);
    for (let y = 1; y <= lines; y++) context.clearRect(0, Math.round(y * side) - gap, cols * side, gap);
  }

  private indexAt(event: MouseEvent): number {
    const box = this.canvas.getBoundingClientRect();
    const { cell, cols, per } = this.layout;
    const x = Math.floor((event.clientX - box.left) / cell);
    const y = Math.floor((event.clientY - box.top) / cell);
    const index = (y * cols + x) * per;
    return x >= 0 && x < cols && y >= 0 && index < this.n ? index : -1;
  }

  private hover(index: number): void {
    if (index === this.at) return;
    this.at = index;
    this.cursor.hidden = index < 0;
    if (index < 0) {
      this.tip.hide();
      return;
    }
    const { cell, cols, per } = this.layout;
    const x = (Math.floor(index / per) % cols) * cell;
    const y = Math.floor(index / per / cols) * cell;
    const side = Math.max(cell, 5);
    Object.assign(this.cursor.style, {
      left: `${x - (side - cell) / 2}px`,
      top: `${y - (side - cell) / 2}px`,
      width: `${side}px`,
      height: `${side}px`,
    });
    const said = (label: string): void => {
      if (this.at !== index) return;
      const phase = phaseWord(this.phases?.[index] ?? 0);
      const text = `${label || `#${number(index)}`} · ${phase}`;
      const box = this.canvas.getBoundingClientRect();
      this.tip.say(text, box.left + x, box.top + y + cell);
      setAttr(this.el, "aria-valuenow", String(index + 1));
      setAttr(this.el, "aria-valuetext", text);
    };
    said("");
    this.host.peek(this.key, index, said);
  }

  private onKey(event: KeyboardEvent): void {
    const { cols } = this.layout;
    const steps: Record<string, number> = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: cols,
      ArrowUp: -cols,
      PageDown: 10 * cols,
      PageUp: -10 * cols,
    };
    const step = steps[event.key];
    if (event.key === "Enter" || event.key === " ") this.host.open(this.key, Math.max(0, this.at));
    else if (event.key === "Home") this.hover(0);
    else if (event.key === "End") this.hover(this.n - 1);
    else if (step) this.hover(Math.max(0, Math.min(this.n - 1, this.at + step)));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function same(a: Uint8Array, b: Uint8Array, n: number): boolean {
  if (a.length !== n) return false;
  for (let i = 0; i < n; i++) if (a[i] !== b[i]) return false;
  return true;
}
