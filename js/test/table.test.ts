/** The table: what it asks for, what it shows, its scales; what a long run does to the tab's title. */

import { beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import { Attention } from "../src/view/attention.ts";
import type { Context } from "../src/view/context.ts";
import { bins } from "../src/view/table/chart.ts";
import { shownCell } from "../src/view/table/grid.ts";
import { quantile, Scale, spreads } from "../src/view/table/scale.ts";
import type { Column } from "../src/view/table/source.ts";
import { TableView } from "../src/view/table/table.ts";

const EVIL = "<img src=x onerror=alert(1)>";
const column = (name: string, more: Partial<Column> = {}): Column => ({
  name,
  of: "fact",
  unit: "",
  numeric: false,
  varies: 2,
  ...more,
});
const COLUMNS = [
  column("id"),
  column("task", { varies: 1 }),
  column("lr", { of: "input", numeric: true }),
  column("loss", { of: "result", numeric: true }),
  column("running", { unit: "s", numeric: true }),
  column("queued", { unit: "s", numeric: true }),
];

type Args = Record<string, unknown> & { names: string[]; start: number; head: boolean };

/** Python, as far as tables go. */
function transport(total = 250) {
  const asked: { op: string; args: Args }[] = [];
  const request = async (op: string, args: Args) => {
    asked.push({ op, args });
    const names = args.names.length ? args.names : COLUMNS.map(({ name }) => name);
    const rows = Array.from({ length: 3 }, (_, i) => names.map((name) => (name === "id" ? `${EVIL}${i}` : i / 2)));
    if (op === "plot") {
      const axes = names.map((name) => ({ name, texts: [] }));
      const buffers = [
        new DataView(new Uint32Array([7, 8]).buffer),
        ...axes.map(() => new DataView(new Float64Array([1, 2]).buffer)),
      ];
      return { reply: { axes, total: 2 }, buffers };
    }
    return {
      reply: {
        rows,
        ids: [1, 2, 3],
        names,
        start: args.start,
        found: total,
        read: total,
        total,
        left_out: 0,
        going: 1,
        scope: args.scope ?? "t:m.fit",
        ...(args.head ? { columns: COLUMNS, scopes: [["t:m.fit", "fit", total]] } : {}),
      },
      buffers: [],
    };
  };
  return { asked, request };
}

let python: ReturnType<typeof transport>;
let view: Context;
let table: TableView;

beforeEach(() => {
  document.body.replaceChildren();
  python = transport();
  const notices = { failed: vi.fn(), say: vi.fn() };
  view = { model: new RunModel(), transport: python, notices, schedule: vi.fn() } as unknown as Context;
  table = new TableView(view, { openNumber: vi.fn(), selected: () => -1 }, "u1");
  document.body.append(table.el);
});

const headings = (): string[] =>
  [...table.el.querySelectorAll("[role=columnheader]")].map((el) => el.textContent ?? "");

describe("a table", () => {
  it("shows arguments and results, and of the facts what differs and is asked for", async () => {
    table.open();
    await vi.waitFor(() => expect(headings()).toEqual(["id", "lr", "loss", "running"]));
    expect(python.asked.map(({ op }) => op)).toEqual(["table", "table"]);
    expect(python.asked.at(-1)?.args.names).toEqual(["id", "lr", "loss", "running"]);
    expect(table.el.querySelector<HTMLSelectElement>("[data-testid=fnb-scope]")?.value).toBe("t:m.fit");
    expect(table.el.querySelector(".fnb-tabsaid")?.textContent).toBe("250 rows · 1 not ended yet");
    expect(table.el.querySelector("[role=grid]")?.getAttribute("aria-rowcount")).toBe("251");
    expect(table.el.querySelector("img")).toBeNull();
  });

  it("is sorted upwards, downwards, and not", async () => {
    table.open();
    await vi.waitFor(() => expect(headings()).toHaveLength(4));
    const orders: unknown[] = [];
    for (let click = 0; click < 3; click++) {
      const before = python.asked.length;
      table.el.querySelectorAll<HTMLElement>(".fnb-tabsort")[2]?.click();
      await vi.waitFor(() => expect(python.asked.length).toBeGreaterThan(before));
      await vi.waitFor(() => expect(headings()).toHaveLength(4));
      const args = python.asked.at(-1)?.args;
      orders.push([args?.sort, args?.desc]);
    }
    expect(orders).toEqual([
      ["loss", false],
      ["loss", true],
      ["", false],
    ]);
  });

  it("plots the first argument against the first result, on two clicks", async () => {
    table.open();
    await vi.waitFor(() => expect(headings()).toHaveLength(4));
    table.el.querySelector<HTMLElement>("[data-testid=fnb-plot]")?.click();
    await vi.waitFor(() => expect(table.el.querySelector("figcaption")?.textContent).toContain("loss against lr"));
    expect(python.asked.at(-1)).toMatchObject({ op: "plot", args: { names: ["lr", "loss"] } });
    expect(table.el.querySelector("[role=img]")?.getAttribute("aria-label")).toContain("2 values: least 1, median 2");
  });

  it("shows how a group's times and results are distributed", async () => {
    table.openGroup("a0/g:fit");
    await vi.waitFor(() => expect(table.el.querySelectorAll("figcaption")).toHaveLength(2));
    expect([...table.el.querySelectorAll("figcaption strong")].map((el) => el.textContent)).toEqual([
      "Distribution of loss",
      "Distribution of running",
    ]);
    expect(python.asked[0]?.args.scope).toBe("g:a0/g:fit");
  });
});

describe("scales and cells", () => {
  it("have round ticks", () => {
    expect(new Scale(0, 97, false).ticks(5).map(({ text }) => text)).toEqual(["0", "20", "40", "60", "80"]);
    expect(new Scale(0.1, 0.7, false).ticks(4).map(({ text }) => text)).toEqual(["0.2", "0.4", "0.6"]);
    expect(new Scale(0, 4e9, false).ticks(3).map(({ text }) => text)).toEqual(["0", "2e9", "4e9"]);
    expect(new Scale(0, 0.004, false, [], "s").ticks(3).map(({ text }) => text)).toEqual(["0.00 s", "2 ms", "4 ms"]);
    expect(new Scale(0.001, 100, true).ticks(5).map(({ text }) => text)).toEqual([
      "0.001",
      "0.01",
      "0.1",
      "1",
      "10",
      "100",
    ]);
    expect(new Scale(0, 2, false, ["adam", "sgd", "x"]).ticks(5).map(({ at }) => at)).toEqual([1 / 6, 0.5, 5 / 6]);
    expect(new Scale(3, 3, false).at(3)).toBe(0.5);
  });

  it("put every value into a bin", () => {
    const values = new Float64Array([1, 1, 2, 10]);
    expect(bins(values, new Scale(1, 10, false), 3).map(({ n }) => n)).toEqual([3, 0, 1]);
    expect(bins(new Float64Array([5, 5]), new Scale(5, 5, false), 3).reduce((sum, { n }) => sum + n, 0)).toBe(2);
    expect([spreads(new Float64Array([1, 60])), spreads(new Float64Array([0, 60]))]).toEqual([true, false]);
    expect(quantile(new Float64Array([1, 2, 3, 4]), 0.5)).toBe(3);
  });

  it("show six digits, and times as times", () => {
    const cells = [null, true, "x", 3, 0.1 + 0.2, 1e-9].map((cell) => shownCell(cell, column("c")));
    expect(cells).toEqual(["", "True", "x", "3", "0.3", "1e-9"]);
    expect(shownCell(75, column("c", { unit: "s" }))).toBe("75.0 s");
    expect([0.00000345, 0.0123, 0.2].map((n) => shownCell(n, column("c", { unit: "s" })))).toEqual([
      "3.45 µs",
      "12.3 ms",
      "0.20 s",
    ]);
    expect([0, 999, 1e6, 2.345e9].map((n) => shownCell(n, column("c", { unit: "B" })))).toEqual([
      "0 B",
      "999 B",
      "1 MB",
      "2.35 GB",
    ]);
  });
});

describe("attention", () => {
  const header = {
    run: "r1",
    title: "fit()",
    kind: "cell",
    phase: 3,
    epoch: 0,
    counts: [0, 0, 0, 2, 0, 0, 2],
    total: 4,
    roots: [""],
  };
  const apply = (model: RunModel, seq: number, now: number, more: object): void => {
    const picture = { kind: "replay", v: 1, seq, now, small: true, rows: [], groups: [], run: { ...header, ...more } };
    model.apply(picture as never, []);
  };

  it("tells in the title how far a long run is", () => {
    document.title = "book.ipynb";
    const model = new RunModel(() => 0);
    const attention = new Attention(document.body, vi.fn());
    const titles = [10, 31, 40, 50].map((now, i) => {
      apply(model, i, now, now === 40 ? { share: 0.505 } : now === 50 ? { ended: 50, phase: 6 } : {});
      attention.look(model);
      return document.title;
    });
    expect(titles).toEqual(["book.ipynb", "2 done · book.ipynb", "50% · book.ipynb", "book.ipynb"]);
    attention.destroy();
  });

  it("tells who asked for it, and looks elsewhere, that a run waits and that it has ended", () => {
    const told: string[] = [];
    class Told {
      static permission = "granted";
      constructor(title: string) {
        told.push(title);
      }
    }
    vi.stubGlobal("Notification", Told);
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    const attend = (notify: string): void => {
      localStorage.setItem("flyte-nb-notify", notify);
      const model = new RunModel(() => 0);
      const attention = new Attention(document.body, vi.fn());
      const counts = [0, 0, 0, 1, 1, 0, 2];
      for (const [seq, more] of [{}, { counts }, { counts }, { ended: 40, phase: 7 }].entries()) {
        apply(model, seq, 40, more);
        attention.look(model);
      }
      attention.destroy();
    };
    attend("off");
    expect(told).toEqual([]);
    attend("on");
    expect(told).toEqual(["r1 waits for you", "r1 failed"]);
    hidden.mockRestore();
    vi.unstubAllGlobals();
  });

  it("says nothing of a run that had ended when the page was opened", () => {
    document.title = "book.ipynb";
    const model = new RunModel(() => 0);
    const attention = new Attention(document.body, vi.fn());
    apply(model, 1, 90, { ended: 90, phase: 6 });
    attention.look(model);
    expect(document.title).toBe("book.ipynb");
    attention.destroy();
  });
});
