/** One live view: takes messages, draws what changed once per frame, tells Python what is on screen. */

import { number, summary } from "../format.ts";
import { bytes, type LogEntry, RunModel } from "../model.ts";
import { isFailure, P, phaseWord, SEGMENTS, type SegmentWord } from "../phases.ts";
import { type Detail, type Labels, type Log, type Message, type Model, PROTOCOL, type Row } from "../protocol.ts";
import { Transport, uuid } from "../transport.ts";
import { DetailView } from "./detail/view.ts";
import { h, setAttr, setText, show } from "./dom.ts";
import { ErrorsView } from "./errors.ts";
import { HeaderView } from "./header.ts";
import { LogTail, LogView } from "./logs.ts";
import { Palette } from "./palette.ts";
import { parseTimeline, TimelineView } from "./timeline.ts";
import { TreeView } from "./tree.ts";

type Tab = "tree" | "logs" | "timeline";

/** Milliseconds between two messages about what is on screen. */
const LOOK_EVERY = 120;
/** Milliseconds between two redraws of growing durations. */
const TICK_EVERY = 100;
/** Milliseconds between two repeats of a search, or fetches of the time axis, while the run goes on. */
const REFRESH_EVERY = 1_000;
/** Milliseconds between two announcements to screen readers. */
const ANNOUNCE_EVERY = 5_000;

export class App {
  readonly root: HTMLElement;
  readonly model = new RunModel();
  readonly view = uuid().slice(0, 8);
  /** The kernel has put the static snapshot in place of this view: it lives on over it. */
  final = false;
  private readonly transport: Transport;
  private readonly header: HeaderView;
  private readonly errors: ErrorsView;
  private readonly tree: TreeView;
  private readonly logs: LogView;
  private readonly tail: LogTail;
  private readonly timeline: TimelineView;
  private readonly detail: DetailView;
  private readonly body: HTMLElement;
  private readonly panes: Record<Tab, HTMLElement>;
  private readonly tabs: Record<Tab, HTMLButtonElement>;
  private readonly search: HTMLInputElement;
  private readonly sort: HTMLSelectElement;
  private readonly found = h("span", { class: "fnb-muted" });
  private readonly listed: HTMLButtonElement;
  private readonly status = h("div", { class: "fnb-sr", role: "status", "aria-live": "polite" });
  private readonly notice = h("div", { class: "fnb-notice", role: "status", hidden: true });
  private readonly words = new Set<SegmentWord>();
  private fold: { key: string; text: string } | null = null;
  private tab: Tab = "tree";
  private opened: boolean | null = null;
  private dirty = false;
  private frame = 0;
  private lastLook = "";
  private lookTimer: ReturnType<typeof setTimeout> | null = null;
  private readonly timers: ReturnType<typeof setInterval>[] = [];
  private peekTimer: ReturnType<typeof setTimeout> | null = null;
  private announced = { at: 0, phase: -1, text: "" };
  private asking = false;
  private queryPending = false;
  private detailOf = "";
  private selectedPhase = "";
  private readonly observer: ResizeObserver;
  private readonly palette: Palette;

  constructor(private readonly widget: Model) {
    this.transport = new Transport(widget);
    widget.widget_manager?.kernel?.statusChanged?.connect(this.onKernel);
    const heat = {
      peek: (key: string, index: number, then: (label: string) => void) => this.peek(key, index, then),
      open: (key: string, index: number) => this.openCell(key, index),
      colors: () => this.palette.colors,
    };
    this.header = new HeaderView({
      toggle: () => this.toggle(),
      command: (op, args) => this.command(op, args),
      filter: (word) => this.filter(word),
      menu: () => this.menu(),
    });
    this.errors = new ErrorsView({ openNumber: (id) => this.openNumber(id), list: (fold) => this.listFold(fold) });
    this.tree = new TreeView(
      this.model,
      {
        ...heat,
        select: (row, group, index) =>
          row ? this.open(row) : group !== undefined && index !== undefined ? this.openCell(group, index) : undefined,
        signal: (row, value) => this.signal(row, value),
        looked: () => this.look(),
      },
      this.view,
    );
    this.logs = new LogView(this.model, {
      search: (text) => this.searchLogs(text),
      download: (action) => this.download(action),
      reload: () => this.loadLogs(),
    });
    this.tail = new LogTail(() => this.show("logs"));
    this.timeline = new TimelineView(this.model, {
      fetch: (window) => this.fetchTimeline(window),
      openNumber: (id) => this.openNumber(id),
      labelOfNumber: (id, then) => this.labelOfNumber(id, then),
    });
    this.detail = new DetailView(this.model, {
      close: () => this.closeDetail(),
      command: (op, args) => this.command(op, args),
      ask: async (op, args) => (await this.transport.request(op, args)).reply.text ?? "done",
      report: async (action, tab) => String((await this.transport.request("report", { action, tab })).reply.html ?? ""),
      openLog: (detail) => this.openLog(detail),
      openNumber: (id) => this.openNumber(id),
      signal: (row, value) => this.signal(row, value),
      copy: (text) => this.copy(text),
    });
    this.search = h("input", {
      class: "fnb-input fnb-search",
      type: "search",
      placeholder: "Filter",
      "aria-label": "Filter actions by text, task:name, >2s or <50ms",
      title: "Words of a label, task or error; a17; task:name; >2s, <50ms",
      "data-testid": "fnb-search",
    });
    this.search.addEventListener("input", () => this.queryChanged());
    this.sort = h("select", { class: "fnb-input fnb-sort", "aria-label": "Sort actions" });
    for (const [value, label] of [
      ["order", "In order"],
      ["state", "Failed first"],
      ["-duration", "Slowest first"],
      ["label", "By label"],
      ["task", "By task"],
      ["worker", "By worker"],
    ])
      this.sort.append(h("option", { value }, label));
    this.sort.addEventListener("change", () => this.queryChanged());
    this.listed = h("button", {
      class: "fnb-chip",
      type: "button",
      hidden: true,
      title: "Show all actions again",
      onclick: () => this.clearQuery(),
    });
    this.tabs = {
      tree: this.makeTab("tree", "Tree"),
      logs: this.makeTab("logs", "Logs"),
      timeline: this.makeTab("timeline", "Timeline"),
    };
    const bar = h(
      "div",
      { class: "fnb-tabs" },
      h("div", { class: "fnb-tablist", role: "tablist", "aria-label": "Views" }, Object.values(this.tabs)),
      h("span", { class: "fnb-space" }),
      this.found,
      this.listed,
      this.search,
      this.sort,
    );
    this.panes = {
      tree: this.makePane("tree", this.errors.el, this.tree.el, this.tail.el),
      logs: this.makePane("logs", this.logs.el),
      timeline: this.makePane("timeline", this.timeline.el),
    };
    this.body = h(
      "div",
      { class: "fnb-body", hidden: true },
      bar,
      h("div", { class: "fnb-split" }, h("div", { class: "fnb-left" }, Object.values(this.panes)), this.detail.el),
    );
    this.root = h(
      "div",
      { class: "fnb", "data-lm-suppress-shortcuts": "true", "data-testid": "fnb", "data-run": "" },
      this.header.el,
      this.body,
      this.notice,
      this.status,
    );
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.detail.open) this.closeDetail();
      event.stopPropagation();
    });
    this.root.addEventListener(
      "scroll",
      (event) => {
        const el = event.target as Element;
        if (this.root.isConnected) this.scrolled.set(el, el.scrollTop);
      },
      { capture: true, passive: true },
    );
    this.root.addEventListener("contextmenu", (event) => event.stopPropagation());
    const first = widget.get("first") as Record<string, unknown> | null;
    if (first?.run) this.first(first);
    this.timers.push(
      setInterval(() => this.tick(), TICK_EVERY),
      setInterval(() => this.refresh(), REFRESH_EVERY),
    );
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(this.root);
    this.palette = new Palette(this.root, () => this.schedule());
    this.select("tree");
  }

  /** The header as it was when the widget was made: right enough until the replay arrives. */
  private first(header: Record<string, unknown>): void {
    this.model.header = header as unknown as typeof this.model.header;
    this.header.draw(this.model, false, this.words);
  }

  /** Call once the view is in the page. */
  start(): void {
    this.transport.send("ready", { view: this.view, protocol: PROTOCOL });
  }

  // -- messages ---------------------------------------------------------------------------------------------------

  receive(message: Message, buffers: DataView[]): void {
    if (this.transport.take(message, buffers)) return;
    if (message.kind === "notice") this.say(message.text, message.error);
    else if (message.kind === "final") this.final = true;
    else if (message.kind === "replay" || message.kind === "patch") {
      const applied = this.model.apply(message, buffers);
      if (applied === "gap") this.askAgain();
      else if (applied === "ok") {
        this.asking = false;
        for (const [name, tab] of message.reports ?? []) this.detail.reported(name, tab);
        if (message.v !== PROTOCOL) this.say("This page was loaded by another version of flyte_nb: reload it.", true);
        this.schedule();
      }
    }
  }

  private askAgain(): void {
    if (this.asking) return;
    this.asking = true;
    this.transport.send("snapshot", { view: this.view });
    setTimeout(() => {
      this.asking = false;
    }, 2_000);
  }

  private schedule(): void {
    this.dirty = true;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  // -- drawing ----------------------------------------------------------------------------------------------------

  private get bodyOpen(): boolean {
    if (this.opened !== null) return this.opened;
    const header = this.model.header;
    if (!header) return false;
    // A quick cell with one action stays one line.
    return header.total > 1 || header.counts.some((n, code) => n > 0 && (isFailure(code) || code === P.PAUSED));
  }

  private draw(): void {
    this.frame = 0;
    const header = this.model.header;
    if (!this.dirty || !header) return;
    this.dirty = false;
    const open = this.bodyOpen;
    this.root.dataset.run = header.run;
    this.root.classList.toggle("fnb-open", open);
    show(this.body, open);
    this.header.draw(this.model, open, this.words);
    this.placeTail(open);
    this.tail.draw(this.model, open ? 5 : 8);
    if (open) {
      this.errors.draw(this.model);
      setText(this.tabs.logs, this.model.logTotal ? `Logs ${number(this.model.logTotal)}` : "Logs");
      if (this.tab === "tree") this.tree.draw();
      else if (this.tab === "logs") this.logs.draw();
      else this.timeline.draw();
    }
    this.refreshDetail();
    this.announce();
    this.look();
  }

  /** A folded view still shows the last lines that were printed. */
  private placeTail(open: boolean): void {
    const home = open ? this.panes.tree : this.root;
    if (this.tail.el.parentElement === home) return;
    if (open) home.append(this.tail.el);
    else this.root.insertBefore(this.tail.el, this.notice);
  }

  private tick(): void {
    if (!this.model.running || !this.root.isConnected) return;
    this.header.tick(this.model);
    if (this.bodyOpen && this.tab === "tree") this.tree.tick();
    if (this.detail.open) this.detail.tick();
  }

  private refresh(): void {
    if (!this.root.isConnected) return;
    // Once more after the end: what was drawn last was a moment before it.
    const running = this.model.running;
    const last = this.wasRunning && !running;
    this.wasRunning = running;
    if (!(running || last) || !this.bodyOpen) return;
    if (this.tab === "timeline") this.fetchTimeline(this.timeline.wanted);
    if (this.tab === "logs" && this.logs.wanted) this.searchLogs(this.logs.wanted);
    if (this.tab === "tree" && this.hasQuery) this.runQuery();
  }

  private resized(): void {
    this.root.classList.toggle("fnb-narrow", this.root.clientWidth < 760);
    this.schedule();
  }

  private announce(): void {
    const header = this.model.header;
    if (!header) return;
    const now = performance.now();
    const ended = header.phase !== this.announced.phase;
    if (!ended && now - this.announced.at < ANNOUNCE_EVERY) return;
    const text = `Run ${header.run} ${phaseWord(header.phase)}. ${summary(header.counts)}.`;
    if (text === this.announced.text) return;
    this.announced = { at: now, phase: header.phase, text };
    setText(this.status, text);
  }

  // -- tabs -------------------------------------------------------------------------------------------------------

  private makeTab(tab: Tab, label: string): HTMLButtonElement {
    const el = h(
      "button",
      {
        class: "fnb-tab",
        role: "tab",
        type: "button",
        id: `fnb-${this.view}-tab-${tab}`,
        "aria-controls": `fnb-${this.view}-${tab}`,
        "data-testid": `fnb-tab-${tab}`,
        onclick: () => this.show(tab),
      },
      label,
    );
    el.addEventListener("keydown", (event) => {
      const order: Tab[] = ["tree", "logs", "timeline"];
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (!step) return;
      const next = order[(order.indexOf(tab) + step + order.length) % order.length] as Tab;
      this.show(next);
      this.tabs[next].focus();
      event.preventDefault();
    });
    return el;
  }

  private makePane(tab: Tab, ...children: HTMLElement[]): HTMLElement {
    return h(
      "div",
      {
        class: "fnb-pane",
        role: "tabpanel",
        id: `fnb-${this.view}-${tab}`,
        "aria-labelledby": `fnb-${this.view}-tab-${tab}`,
      },
      children,
    );
  }

  private select(tab: Tab): void {
    this.tab = tab;
    for (const key of Object.keys(this.tabs) as Tab[]) {
      setAttr(this.tabs[key], "aria-selected", String(key === tab));
      setAttr(this.tabs[key], "tabindex", key === tab ? "0" : "-1");
      show(this.panes[key], key === tab);
    }
    for (const el of [this.search, this.sort]) show(el, tab === "tree");
  }

  private show(tab: Tab): void {
    this.opened = this.bodyOpen || tab !== "tree" ? true : this.opened;
    this.select(tab);
    if (tab === "logs") this.loadLogs();
    if (tab === "timeline") this.fetchTimeline(this.timeline.wanted);
    this.schedule();
  }

  private toggle(): void {
    this.opened = !this.bodyOpen;
    this.schedule();
  }

  private menu(): { label: string; run(): void }[] {
    const header = this.model.header;
    const run = header?.run ?? "";
    const selected = this.model.rows.get(this.tree.selected);
    const name = selected ? `${run}/a${selected.id}` : run;
    const items = [{ label: `Copy name “${name}”`, run: () => this.copy(name) }];
    const link = linkTo(header?.cell);
    if (link) items.push({ label: "Copy link to this cell", run: () => this.copy(link) });
    items.push({ label: "Download log", run: () => this.download(null) });
    if (selected) items.push({ label: `Download log of a${selected.id}`, run: () => this.download(selected.name) });
    items.push(
      { label: "Expand all", run: () => this.expandAll(true) },
      { label: "Collapse all", run: () => this.expandAll(false) },
    );
    return items;
  }

  private expandAll(open: boolean): void {
    this.opened = true;
    this.show("tree");
    this.tree.expandAll(open);
  }

  // -- commands ---------------------------------------------------------------------------------------------------

  private command(op: string, args: Record<string, unknown> = {}): void {
    const all = { run: this.model.header?.run ?? "", ...args };
    this.transport.command(op, all, (text, error) => {
      if (error && op === "cancel_run") this.header.cancelFailed();
      this.say(text, error);
    });
  }

  private signal(row: Row, value: string): void {
    this.command("signal", { action: row.name, value });
  }

  private copy(text: string): void {
    // Without a clipboard (a page that is not https) the text itself is shown, to be copied by hand.
    const wrote = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("no clipboard"));
    wrote.then(
      () => this.say(text.length > 80 ? "Copied" : `Copied ${text}`, false),
      () => this.say(text, false),
    );
  }

  private say(text: string, error: boolean): void {
    setText(this.notice, text);
    this.notice.classList.toggle("fnb-error", error);
    show(this.notice, true);
    if (!error)
      setTimeout(() => {
        if (this.notice.textContent === text) show(this.notice, false);
      }, 4_000);
  }

  // -- what is on screen ------------------------------------------------------------------------------------------

  private look(): void {
    if (this.lookTimer) return;
    this.lookTimer = setTimeout(() => {
      this.lookTimer = null;
      const open = this.bodyOpen;
      const seen = open && this.tab === "tree" ? this.tree.interest() : { open: [], ranges: [], numbers: [] };
      const selected = this.model.rows.get(this.detailOf);
      const numbers = selected ? [...seen.numbers, selected.id] : seen.numbers;
      const args = {
        view: this.view,
        open: seen.open,
        ranges: seen.ranges,
        numbers,
        logs: open && this.tab === "logs",
      };
      const key = JSON.stringify(args);
      if (key === this.lastLook || this.model.seq < 0) return;
      // Small runs are sent whole: nothing to ask for but the log.
      if (this.model.small && !args.logs && !this.everAsked) return;
      this.lastLook = key;
      this.everAsked = true;
      this.transport.send("visible_rows", args);
    }, LOOK_EVERY);
  }
  private everAsked = false;
  private wasRunning = false;
  private logTimer: ReturnType<typeof setTimeout> | null = null;
  private readonly scrolled = new Map<Element, number>();

  // -- search -----------------------------------------------------------------------------------------------------

  private get hasQuery(): boolean {
    return this.search.value.trim() !== "" || this.words.size > 0 || this.sort.value !== "order" || this.fold !== null;
  }

  private filter(word: SegmentWord): void {
    if (this.words.has(word)) this.words.delete(word);
    else {
      this.words.clear();
      this.words.add(word);
    }
    this.opened = true;
    this.show("tree");
    this.queryChanged();
  }

  private listFold(fold: { key: string; text: string; n: number }): void {
    this.fold = { key: fold.key, text: fold.text };
    this.queryChanged();
  }

  private clearQuery(): void {
    this.search.value = "";
    this.sort.value = "order";
    this.words.clear();
    this.fold = null;
    this.queryChanged();
  }

  private queryChanged(): void {
    if (this.hasQuery) this.runQuery();
    else {
      this.tree.results = null;
      setText(this.found, "");
    }
    show(this.listed, this.hasQuery);
    setText(this.listed, this.fold ? `${this.fold.text.slice(0, 40)} ✕` : "Clear ✕");
    this.schedule();
  }

  private runQuery(): void {
    if (this.queryPending) return;
    this.queryPending = true;
    const desc = this.sort.value.startsWith("-");
    const states = SEGMENTS.filter(({ word }) => this.words.has(word)).flatMap(({ codes }) => [...codes]);
    const args = {
      text: this.search.value,
      states,
      sort: this.sort.value.replace("-", ""),
      desc,
      error: this.fold?.key ?? "",
    };
    const asked = JSON.stringify(args);
    this.transport.request("query", args).then(
      ({ reply, buffers }) => {
        this.queryPending = false;
        if (!this.hasQuery) return;
        for (const row of reply.rows as Row[]) this.model.takeRow(row);
        const raw = buffers[0] ? bytes(buffers[0]).slice() : new Uint8Array();
        this.tree.results = new Uint32Array(raw.buffer, 0, raw.byteLength >> 2);
        const total = Number(reply.total);
        setText(
          this.found,
          `${number(total)} found${total > this.tree.results.length ? `, first ${number(this.tree.results.length)} shown` : ""}`,
        );
        this.schedule();
        const now = {
          text: this.search.value,
          states: SEGMENTS.filter(({ word }) => this.words.has(word)).flatMap(({ codes }) => [...codes]),
          sort: this.sort.value.replace("-", ""),
          desc: this.sort.value.startsWith("-"),
          error: this.fold?.key ?? "",
        };
        if (JSON.stringify(now) !== asked) this.runQuery();
      },
      (error: Error) => {
        this.queryPending = false;
        if (error.message !== "closed") this.say(error.message, true);
      },
    );
  }

  // -- details ----------------------------------------------------------------------------------------------------

  private open(row: Row): void {
    this.openName(row.name, row);
  }

  private openNumber(id: number): void {
    const row = this.model.rowByNumber(id);
    this.openName(row?.name ?? `a${id}`, row);
    if (row && this.tab === "tree") this.tree.reveal(row);
  }

  private openCell(key: string, index: number): void {
    const row = this.model.rowAt(key, index);
    if (row) this.open(row);
    else
      this.peek(key, index, () => {
        const found = this.model.rowAt(key, index);
        if (found) this.open(found);
      });
  }

  private openName(name: string, row: Row | undefined): void {
    if (this.detailOf === name && this.detail.open) {
      this.closeDetail();
      return;
    }
    this.opened = true;
    this.detailOf = name;
    this.tree.selected = name;
    this.detail.waiting(row, name);
    this.fetchDetail(name);
    this.schedule();
  }

  private fetchDetail(name: string): void {
    this.transport.request("detail", { action: name }).then(
      ({ reply }) => {
        const detail = reply.detail as Detail;
        this.model.takeRow(detail.row);
        if (this.detailOf !== name && this.detailOf !== detail.name) return;
        this.detailOf = detail.name;
        this.tree.selected = detail.name;
        this.selectedPhase = this.phaseKey();
        this.detail.draw(detail);
        this.schedule();
      },
      (error: Error) => {
        if (this.detailOf === name && error.message !== "closed") this.detail.failed(error);
      },
    );
  }

  private phaseKey(): string {
    const row = this.model.rows.get(this.detailOf);
    return row ? `${row.phase}/${row.attempt}` : "";
  }

  /** The open panel is fetched again when its action's phase changed. */
  private refreshDetail(): void {
    if (!this.detail.open || !this.detailOf || this.selectedPhase === "") return;
    const now = this.phaseKey();
    if (now && now !== this.selectedPhase) {
      this.selectedPhase = now;
      this.fetchDetail(this.detailOf);
    }
  }

  private closeDetail(): void {
    this.detail.hide();
    this.detailOf = "";
    this.selectedPhase = "";
    this.tree.selected = "";
    this.tree.focus();
    this.schedule();
  }

  private peek(key: string, index: number, then: (label: string) => void): void {
    const known = this.model.rowAt(key, index);
    if (known) {
      then(known.label);
      return;
    }
    if (this.peekTimer) clearTimeout(this.peekTimer);
    this.peekTimer = setTimeout(() => {
      this.transport.request("peek", { group: key, index }).then(
        ({ reply }) => {
          const row = reply.row as Row;
          this.model.takeRow(row);
          then(row.label);
        },
        () => undefined, // A tool tip that stays without its label is no reason for a message.
      );
    }, 60);
  }

  private labelOfNumber(id: number, then: (label: string) => void): void {
    const known = this.model.rowByNumber(id);
    if (known) {
      then(known.label);
      return;
    }
    if (this.peekTimer) clearTimeout(this.peekTimer);
    this.peekTimer = setTimeout(() => {
      this.transport.request("detail", { action: `a${id}` }).then(
        ({ reply }) => {
          const { row } = reply.detail as Detail;
          this.model.takeRow(row);
          then(row.label);
        },
        () => undefined, // The same.
      );
    }, 120);
  }

  // -- logs, time axis --------------------------------------------------------------------------------------------

  private loadLogs(): void {
    this.transport.request("logs").then(
      ({ reply }) => {
        const log = reply.log as Log;
        this.model.takeLabels((reply.labels ?? {}) as Labels);
        const entries: LogEntry[] = log.hidden > 0 ? [{ hidden: log.hidden }] : [];
        entries.push(...log.tail.map((line) => ({ line })));
        this.model.logTotal = log.total;
        this.model.setLogs(entries);
        this.schedule();
      },
      (error: Error) => error.message !== "closed" && this.say(error.message, true),
    );
  }

  private searchLogs(text: string): void {
    if (this.logTimer) clearTimeout(this.logTimer);
    this.logTimer = setTimeout(() => {
      this.transport.request("logs", { text }).then(
        ({ reply }) => {
          this.model.takeLabels((reply.labels ?? {}) as Labels);
          this.logs.found(text, reply.log as Log);
        },
        (error: Error) => error.message !== "closed" && this.say(error.message, true),
      );
    }, 150);
  }

  private openLog(detail: Detail): void {
    this.show("logs");
    this.logs.showAction(detail.name, detail.label, detail.log);
  }

  private download(action: string | null): void {
    const parts: Uint8Array[] = [];
    let name = "flyte.log";
    this.transport
      .request("download", action ? { action } : {}, (reply, buffers) => {
        name = String(reply.file ?? name);
        if (buffers[0]) parts.push(bytes(buffers[0]).slice());
      })
      .then(
        () => {
          const link = h("a", {
            href: URL.createObjectURL(new Blob(parts as BlobPart[], { type: "text/plain" })),
            download: name,
          });
          link.click();
          setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
        },
        (error: Error) => this.say(error.message, true),
      );
  }

  private fetchTimeline(window: [number, number] | null): void {
    this.transport.request("timeline", window ? { from: window[0], to: window[1] } : {}).then(
      ({ reply, buffers }) => this.timeline.take(parseTimeline(reply, buffers)),
      (error: Error) => error.message !== "closed" && this.say(error.message, true),
    );
  }

  /** The view was put elsewhere in the page, which scrolls everything in it to the top. */
  remounted(): void {
    const before = [...this.scrolled];
    for (const [el, top] of before) el.scrollTop = top;
    this.resized();
    if (this.tab === "logs") this.logs.remounted();
  }

  private readonly onKernel = (_kernel: unknown, status: string): void => {
    if (["restarting", "autorestarting", "terminating", "dead"].includes(status)) this.orphan();
  };

  /** The kernel let go of this run, or is gone. */
  orphan(): void {
    if (this.root.classList.contains("fnb-orphan")) return;
    this.transport.close();
    for (const timer of this.timers) clearInterval(timer);
    this.say(
      `${this.model.running ? "The kernel is gone: this is the last that was known." : "The kernel is gone."}`,
      this.model.running,
    );
    this.root.classList.add("fnb-orphan");
  }

  destroy(): void {
    this.transport.close();
    this.widget.widget_manager?.kernel?.statusChanged?.disconnect(this.onKernel);
    for (const timer of this.timers) clearInterval(timer);
    if (this.lookTimer) clearTimeout(this.lookTimer);
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.palette.destroy();
    this.tree.destroy();
    this.logs.destroy();
    this.root.remove();
  }
}

/** The address of a cell: JupyterLab and Notebook 7 scroll to it. "" elsewhere. */
function linkTo(cell: string | undefined): string {
  const jupyter = "jpThemeLight" in document.body.dataset;
  return cell && jupyter ? `${location.origin}${location.pathname}#cell-id=${cell}` : "";
}
