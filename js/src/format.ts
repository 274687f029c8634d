/** Numbers and times in words, as flyte_nb/views/words.py says them. */

import { SEGMENTS } from "./phases.ts";

const numbers = new Intl.NumberFormat("en");
export const number = (n: number): string => numbers.format(n);

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const s = Math.max(0, seconds);
  if (s < 9.995) return `${s.toFixed(2)} s`;
  if (s < 99.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  const two = (n: number): string => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** A duration in smaller units where it is short: for axes and columns, whose values differ by little. */
export function fine(seconds: number): string {
  if (seconds === 0 || Math.abs(seconds) >= 0.0999) return duration(seconds);
  const short = (n: number): number => Number(n.toPrecision(3));
  return Math.abs(seconds) < 0.000999 ? `${short(1e6 * seconds)} µs` : `${short(1e3 * seconds)} ms`;
}

/** A duration that is still growing: one decimal, so that it does not flicker. */
export function growing(seconds: number): string {
  return seconds < 99.95 ? `${Math.max(0, seconds).toFixed(1)} s` : duration(seconds);
}

/** "310 MB", as Python's `bytes_text`. */
export function bytesText(size: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  let at = 0;
  let left = size;
  while (left >= 1000 && at < units.length - 1) {
    left /= 1000;
    at += 1;
  }
  return `${at && left < 10 ? left.toFixed(1) : Math.round(left)} ${units[at]}`;
}

export const percent = (share: number): string => `${Math.round(100 * share)} %`;

/** How much of something is done: "100%" not before all of it is. */
export const progress = (share: number): string => `${Math.floor(100 * share + 1e-9)}%`;

export function segments(counts: number[]): { word: string; look: number; n: number }[] {
  return SEGMENTS.map(({ word, look, codes }) => ({
    word,
    look,
    n: codes.reduce((sum: number, code) => sum + (counts[code] ?? 0), 0),
  })).filter(({ n }) => n > 0);
}

export const summary = (counts: number[]): string =>
  segments(counts)
    .map(({ word, n }) => `${number(n)} ${word}`)
    .join(", ");

/** Time of day, with the reader's own clock. */
export const clockTime = (epoch: number): string =>
  new Date(epoch * 1000).toLocaleTimeString(undefined, { hour12: false });
