/** Scale of an axis: from values to a share of its length, and its ticks. */

import { inUnit, short } from "./grid.ts";

export interface Tick {
  at: number;
  text: string;
}

export class Scale {
  private readonly low: number;
  private readonly high: number;

  constructor(
    min: number,
    max: number,
    readonly log: boolean,
    private readonly texts: string[] = [],
    private readonly unit = "",
    /** Share of its length that is left free at both ends. */
    free = 0,
  ) {
    const [a, b] = log ? [Math.log10(min), Math.log10(max)] : [min, max];
    const pad = texts.length ? 0.5 : a === b ? (log ? 0.5 : Math.max(1, Math.abs(a)) / 2) : free * (b - a);
    this.low = a - pad;
    this.high = b + pad;
  }

  /** Where a value lies: 0 at the beginning, 1 at the end. */
  at(value: number): number {
    return ((this.log ? Math.log10(value) : value) - this.low) / (this.high - this.low);
  }

  /** The value at a share of the length. */
  value(at: number): number {
    const value = this.low + at * (this.high - this.low);
    return this.log ? 10 ** value : value;
  }

  text(value: number): string {
    if (this.texts.length) return this.texts[Math.round(value)] ?? "";
    return this.unit ? inUnit(value, this.unit) : short(value);
  }

  /** About `wanted` ticks at round values. */
  ticks(wanted: number): Tick[] {
    if (this.texts.length) {
      const step = Math.ceil(this.texts.length / Math.max(1, wanted));
      return this.texts.map((text, i) => ({ at: this.at(i), text })).filter((_, i) => i % step === 0);
    }
    const values = this.log ? this.decades(wanted) : this.round(wanted);
    return values.map((value) => ({ at: this.at(value), text: this.tickText(value) }));
  }

  private tickText(value: number): string {
    if (this.unit) return inUnit(Number(value.toPrecision(8)), this.unit);
    if (Math.abs(value) >= 1e6) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
    return short(Number(value.toPrecision(8)));
  }

  private round(wanted: number): number[] {
    const span = this.high - this.low;
    const raw = span / Math.max(1, wanted);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) ?? raw;
    const out: number[] = [];
    for (let n = Math.ceil(this.low / step - 1e-9); n * step <= this.high + span * 1e-9; n++) out.push(n * step);
    return out;
  }

  private decades(wanted: number): number[] {
    const out: number[] = [];
    const first = Math.floor(this.low);
    const last = Math.ceil(this.high);
    const parts = last - first <= 2 && (last - first) * 3 <= wanted + 2 ? [1, 2, 5] : [1];
    const step = Math.max(1, Math.ceil((last - first) / Math.max(1, wanted)));
    for (let power = first; power <= last; power += step) for (const part of parts) out.push(part * 10 ** power);
    return out.filter((value) => this.at(value) > -1e-9 && this.at(value) < 1 + 1e-9);
  }
}

/** Whether values spread over decades, so that equal steps would hide most of them. */
export function spreads(values: Float64Array): boolean {
  const [min, max] = range(values);
  return min > 0 && max / min >= 50;
}

export function range(values: Float64Array): [number, number] {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  return [min, max];
}

/** The value below which a share of sorted values lies. */
export const quantile = (sorted: Float64Array, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
