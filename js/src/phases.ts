/**
 * Phases: code, word, what is terminal or a failure, and the segments of a bar. All from `phases.json`, which Python writes
 * from its own `Phase` (see tests/views/test_phases.py): nothing here says again what Python says.
 */

import table from "./phases.json";

export type PhaseName = keyof typeof table.words;
export type SegmentWord = keyof typeof table.segments;

export const PHASE_NAMES = Object.keys(table.words) as PhaseName[];

/** Code of each phase on the wire: its position in Python's `Phase`. */
export const P = Object.fromEntries(PHASE_NAMES.map((name, code) => [name, code])) as Record<PhaseName, number>;

const codesOf = (names: string[]): number[] => names.map((name) => P[name as PhaseName]);

const WORDS = Object.values(table.words);
const TERMINAL = codesOf(table.terminal);
const FAILURES = codesOf(table.failures);

/** Segments of a bar, in order, with the phase codes that count as each; the first gives it its look. */
export const SEGMENTS = Object.entries(table.segments).map(([word, names]) => {
  const codes = codesOf(names);
  return { word: word as SegmentWord, look: codes[0] as number, codes };
});

export const phaseWord = (code: number): string => WORDS[code] ?? "unknown";
export const isTerminal = (code: number): boolean => TERMINAL.includes(code);
/** How many of so many of each phase have ended. */
export const endedOf = (counts: number[]): number =>
  counts.reduce((sum, n, code) => sum + (isTerminal(code) ? n : 0), 0);
export const isFailure = (code: number): boolean => FAILURES.includes(code);
