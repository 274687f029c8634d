/** Words and colours. */

import { describe, expect, it } from "vitest";
import { parseAnsi, plain } from "../src/ansi.ts";
import { duration, growing, number, summary } from "../src/format.ts";
import { heatLayout } from "../src/view/heat.ts";
import { niceStep } from "../src/view/timeline.ts";

describe("durations", () => {
  it.each([
    [0, "0.00 s"],
    [9.994, "9.99 s"],
    [12.34, "12.3 s"],
    [125, "2 m 05 s"],
    [3720, "1 h 02 m"],
    [90000, "1 d 01 h"],
    [-1, "0.00 s"],
    [Number.NaN, ""],
    [null, ""],
  ])("says %s as %s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  it("keeps one decimal while it grows", () => {
    expect(growing(9.97)).toBe("10.0 s");
  });
});

describe("counts", () => {
  it("are summed by what they mean", () => {
    expect(summary([355, 0, 1, 1, 0, 0, 639, 2, 0, 1, 1, 0])).toBe("640 done, 3 failed, 2 running, 355 queued");
    expect(number(12340)).toBe("12,340");
  });
});

describe("terminal colours", () => {
  it("become classes, and nothing else of an escape is kept", () => {
    expect(parseAnsi("a\x1b[1;31mb\x1b[0mc")).toEqual([
      { text: "a", classes: "" },
      { text: "b", classes: "fg1 bold" },
      { text: "c", classes: "" },
    ]);
    expect(parseAnsi("\x1b]8;;http://x\x07link\x1b]8;;\x07\x1b[2K\x00!")).toEqual([
      { text: "link", classes: "" },
      { text: "!", classes: "" },
    ]);
  });

  it("are read in 8 bits too; controls and changes of direction are not shown", () => {
    expect(parseAnsi("\x9b31mred\x9b0m \x9d52;c;aGk=\x9cx")).toEqual([
      { text: "red", classes: "fg1" },
      { text: " ", classes: "" },
      { text: "x", classes: "" },
    ]);
    expect(parseAnsi("a\u202eb\u2066c\x85d")).toEqual([{ text: "abcd", classes: "" }]);
    expect(plain("\x9d0;title\x07a\u202eb")).toBe("ab");
  });

  it("of a megabyte are read at once", () => {
    for (const unit of ["\x1b[", "\x1b]8;;", "\x9d", "\r", "\x1b[0;", "\x1bP"]) {
      expect(parseAnsi(unit.repeat(300_000)).length).toBeLessThan(2);
      expect(plain(unit.repeat(300_000)).length).toBeLessThan(1_000_000);
    }
  });

  it("of 256 and of 24 bits are CSS colours made of numbers only", () => {
    expect(parseAnsi("\x1b[38;5;196mx")[0]?.color).toBe("rgb(255,0,0)");
    expect(parseAnsi("\x1b[38;2;1;999;3mx")[0]?.color).toBe("rgb(1,255,3)");
  });

  it("keeps the last state of a progress bar", () => {
    expect(parseAnsi("10%\r50%\r100%\r")).toEqual([{ text: "100%", classes: "" }]);
  });
});

describe("the heat strip", () => {
  it("shows every action, whatever their number", () => {
    for (const n of [1, 40, 1_000, 50_000, 100_000, 300_000]) {
      const { cols, lines, cell, height, per } = heatLayout(n, 900);
      expect(cols * lines * per).toBeGreaterThanOrEqual(n);
      expect(cols * cell).toBeLessThanOrEqual(900);
      if (n <= 100_000) expect(per).toBe(1);
      expect(height).toBeLessThanOrEqual(181);
    }
  });
});

describe("the time axis", () => {
  it("has round steps", () => {
    expect([0.03, 0.7, 1.2, 30].map(niceStep)).toEqual([0.05, 1, 2, 50]);
  });
});
