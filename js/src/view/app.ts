/** Live view of one run: takes messages, draws what changed once per frame, and follows the page and the kernel. */

import { RunModel } from "../model.ts";
import { isFailure, P } from "../phases.ts";
import { type Header, type Message, type Model, PROTOCOL } from "../protocol.ts";
import { Transport, uuid } from "../transport.ts";
import { Attention } from "./attention.ts";
import { Body } from "./body.ts";
import { type ClusterNow, ClusterStrip } from "./cluster.ts";
import { compare } from "./compare.ts";
import type { Context } from "./context.ts";
import { dock } from "./dock.ts";
import { h, show } from "./dom.ts";
import { FocusMemory, SelectionMemory } from "./focus.ts";
import { HeaderView } from "./header.ts";
import { Interest } from "./interest.ts";
import { LogTail } from "./logtail.ts";
import { Notices } from "./notices.ts";
import { listRuns } from "./runs.ts";
import { ScrollMemory } from "./scrolls.ts";
import { Sheet } from "./sheet.ts";
import { WaitsBar } from "./waits.ts";

/** Milliseconds between two redraws of growing durations. */
const TICK_EVERY = 100;
/** Milliseconds between two repeats of a search, or fetches of the time axis, while the run goes on. */
const REFRESH_EVERY = 1_000;
/** Milliseconds after which a snapshot that did not come is asked for again, at the next gap. */
const ASK_AGAIN = 2_000;
/** Width in pixels below which the panel stands under the tree. */
const NARROW = 760;

const KEYS =
  "Keys: / filter or search · arrows, Page Up, Page Down, Home, End move · Enter opens · Escape closes · " +
  "in the timeline + and − zoom, 0 fits";

export class App {
  readonly root: HTMLElement;
  readonly model = new RunModel();
  /** Called when the kernel is gone; else it is said in the view. */
  gone: () => void = () => this.orphan();
  private readonly uid = uuid().slice(0, 8);
  private readonly transport: Transport;
  private readonly notices = new Notices();
  private readonly header: HeaderView;
  private readonly body: Body;
  private readonly tail: LogTail;
  private readonly waits: WaitsBar;
  private readonly cluster: ClusterStrip;
  private readonly sheet = new Sheet();
  private readonly interest: Interest;
  private readonly scrolls: ScrollMemory;
  private readonly focus: FocusMemory;
  private readonly selection: SelectionMemory;
  private readonly attention: Attention;
  private readonly observer: ResizeObserver;
  private readonly timers: ReturnType<typeof setInterval>[];
  private readonly compare: () => void;
  private readonly listRuns: () => void;
  /** Whether the reader unfolded or folded the body; null: neither yet. */
  private opened: boolean | null = null;
  private frame = 0;
  private asking = false;

  constructor(private readonly widget: Model) {
    const { model, notices } = this;
    this.transport = new Transport(widget);
    widget.widget_manager?.kernel?.statusChanged?.connect(this.onKernel);
    const context: Context = { model, notices, transport: this.transport, schedule: () => this.schedule() };
    this.interest = new Interest(context, this.uid, () => this.body.seen(this.bodyOpen));
    this.header = new HeaderView({
      toggle: () => this.toggle(),
      command: (op, args) => this.command(op, args),
      filter: (word) => this.body.filter(word),
      compare: () => this.compare(),
      menu: () => this.menu(),
    });
    this.body = new Body(context, this.uid, {
      command: (op, args) => this.command(op, args),
      unfold: () => {
        this.opened = true;
      },
      looked: () => this.interest.changed(),
    });
    this.compare = () => compare(context, this.sheet, (id) => this.body.details.openNumber(id));
    this.listRuns = () => listRuns(context, this.sheet);
    this.waits = new WaitsBar({
      show: (only) => (only ? this.body.details.openNumber(only.id) : this.body.filter("paused")),
      retry: () => this.command("retry_failed"),
      attach: (row) => {
        this.body.details.openNumber(row.id, false);
        this.body.details.panel.attach(row);
      },
    });
    this.cluster = new ClusterStrip({
      look: async () => (await this.transport.request("cluster")).reply as unknown as ClusterNow,
      open: (name) => {
        const row = model.rows.get(name);
        if (row) this.body.details.open(row);
      },
      run: () => model.header?.run ?? "",
      close: () => this.cluster.stop(),
    });
    this.tail = new LogTail(
      () => this.body.show("logs"),
      (id) => this.body.details.openNumber(id, false),
    );
    this.root = h(
      "div",
      { class: "fnb", "data-lm-suppress-shortcuts": "true", "data-testid": "fnb", "data-run": "" },
      this.header.el,
      this.waits.el,
      this.cluster.el,
      this.sheet.el,
      this.body.el,
      notices.el,
      notices.status,
    );
    this.root.addEventListener("keydown", (event) => {
      this.onKey(event);
      event.stopPropagation();
    });
    this.root.addEventListener("fnb-say", (event) => notices.say(String((event as CustomEvent).detail), false));
    this.root.addEventListener("contextmenu", (event) => event.stopPropagation());
    this.scrolls = new ScrollMemory(this.root);
    this.focus = new FocusMemory(this.root);
    this.selection = new SelectionMemory(this.root);
    this.attention = new Attention(this.root, (text, error) => notices.say(text, error));
    const first = widget.get("first") as Record<string, unknown> | null;
    if (first?.run) this.first(first);
    this.timers = [setInterval(() => this.tick(), TICK_EVERY), setInterval(() => this.refresh(), REFRESH_EVERY)];
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(this.root);
  }

  /** The header as it was when the widget was made: right enough until the replay arrives. */
  private first(header: Record<string, unknown>): void {
    this.model.begin(header as unknown as Header, Date.now() / 1000);
    this.header.draw(this.model, false, this.body.query.words);
  }

  /** Call once the view is in the page. */
  start(): void {
    this.transport.send("ready", { view: this.uid, protocol: PROTOCOL, page: this.page });
  }

  /** Whether outputs share the page. Colab has a document for each: there a view cannot go over a picture elsewhere. */
  private readonly page = !("google" in window);

  // -- messages ---------------------------------------------------------------------------------------------------

  receive(message: Message, buffers: DataView[]): void {
    if (this.transport.take(message, buffers)) return;
    if (message.kind === "notice") this.notices.say(message.text, message.error);
    else if (message.kind === "replay" || message.kind === "patch") {
      const applied = this.model.apply(message, buffers);
      if (applied === "gap") this.askAgain();
      else if (applied === "ok") {
        this.asking = false;
        this.attention.look(this.model);
        for (const [name, tab] of message.reports ?? []) this.body.details.panel.reported(name, tab);
        if (message.v !== PROTOCOL)
          this.notices.say("This page was loaded by another version of flyte_nb: reload it.", true);
        this.schedule();
      }
    }
  }

  private askAgain(): void {
    if (this.asking) return;
    this.asking = true;
    this.transport.send("snapshot", { view: this.uid });
    setTimeout(() => {
      this.asking = false;
    }, ASK_AGAIN);
  }

  private command(op: string, args: Record<string, unknown> = {}): void {
    this.notices.clear();
    const all = { run: this.model.header?.run ?? "", ...args };
    this.transport.command(op, all, (text, error) => {
      if (error && op === "cancel_run") this.header.cancelFailed();
      this.notices.say(text, error);
    });
  }

  private onKey(event: KeyboardEvent): void {
    const { details } = this.body;
    if (event.key === "Escape" && details.panel.open) details.close();
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (event.key === "/") this.body.search();
    else if (event.key === "?") this.notices.say(KEYS, false);
    else return;
    event.preventDefault();
  }

  private menu(): { label: string; run(): void }[] {
    const { body, notices } = this;
    const { header, rows } = this.model;
    const run = header?.run ?? "";
    const selected = rows.get(body.tree.selected);
    const name = selected ? `${run}/a${selected.id}` : run;
    const items = [{ label: `Copy name “${name}”`, run: () => notices.copy(name) }];
    const link = linkTo(header?.cell);
    if (link) items.push({ label: "Copy link to this cell", run: () => notices.copy(link) });
    if (header?.before && header.ended !== undefined)
      items.push({ label: `Compare with ${header.before}`, run: this.compare });
    const download = (action: string | null) => () => body.fetcher.download(action);
    items.push({ label: "Download log", run: download(null) });
    if (selected) items.push({ label: `Download log of a${selected.id}`, run: download(selected.name) });
    if (this.page)
      items.push({ label: "Keep beside the notebook", run: () => dock(String(this.widget.get("uid")), run) });
    items.push({ label: "Runs of this kernel", run: this.listRuns });
    items.push(
      { label: "Expand all", run: () => body.expandAll(true) },
      { label: "Collapse all", run: () => body.expandAll(false) },
    );
    items.push(...this.attention.items());
    if (!this.model.lost)
      items.push(
        this.cluster.open
          ? { label: "Hide the cluster", run: () => this.cluster.stop() }
          : { label: "Show the cluster", run: () => this.cluster.start() },
      );
    return items;
  }

  // -- drawing ----------------------------------------------------------------------------------------------------

  private schedule(): void {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  private get bodyOpen(): boolean {
    if (this.opened !== null) return this.opened;
    const { header } = this.model;
    if (!header) return false;
    // A quick cell with one action stays one line.
    return header.total > 1 || header.counts.some((n, code) => n > 0 && (isFailure(code) || code === P.PAUSED));
  }

  private toggle(): void {
    this.opened = !this.bodyOpen;
    this.schedule();
  }

  private draw(): void {
    this.frame = 0;
    const { header } = this.model;
    if (!header) return;
    const open = this.bodyOpen;
    this.root.dataset.run = header.run;
    this.root.classList.toggle("fnb-open", open);
    show(this.body.el, open);
    this.header.draw(this.model, open, this.body.query.words);
    this.waits.draw(this.model);
    this.placeTail(open);
    this.tail.draw(this.model, open ? 5 : 8);
    if (open) this.body.draw();
    this.body.details.refresh();
    this.notices.announce(header);
    this.interest.changed();
  }

  /** A folded view still shows the last lines that were printed. */
  private placeTail(open: boolean): void {
    const home = open ? this.body.treePane : this.root;
    if (this.tail.el.parentElement === home) return;
    if (open) home.append(this.tail.el);
    else this.root.insertBefore(this.tail.el, this.notices.el);
  }

  /** Draw what only the clock changes. */
  private tick(): void {
    if (!this.model.running || !this.root.isConnected) return;
    this.header.tick(this.model);
    this.body.tick(this.bodyOpen);
  }

  private refresh(): void {
    if (this.root.isConnected) this.body.refresh(this.bodyOpen);
  }

  // -- the page and the kernel ------------------------------------------------------------------------------------

  private resized(): void {
    this.root.classList.toggle("fnb-narrow", this.root.clientWidth < NARROW);
    this.schedule();
  }

  /** The view was put elsewhere in the page, which scrolls everything in it to the top, and takes focus and selection away. */
  remounted(): void {
    this.header.remounted();
    this.scrolls.restore();
    this.focus.restore();
    this.selection.restore();
    this.resized();
    this.body.remounted();
  }

  private readonly onKernel = (_kernel: unknown, status: string): void => {
    if (["restarting", "autorestarting", "terminating", "dead"].includes(status)) this.gone();
  };

  /** The kernel let go of this run, or is gone. */
  orphan(): void {
    if (this.root.classList.contains("fnb-orphan")) return;
    this.transport.close();
    for (const timer of this.timers) clearInterval(timer);
    const { running } = this.model;
    this.model.lose();
    this.attention.look(this.model);
    this.notices.say(running ? "The kernel is gone: this is the last that was known." : "The kernel is gone.", running);
    this.root.classList.add("fnb-orphan");
    this.body.details.lost();
    this.cluster.lost();
    this.schedule();
  }

  destroy(): void {
    this.transport.close();
    this.widget.widget_manager?.kernel?.statusChanged?.disconnect(this.onKernel);
    for (const timer of this.timers) clearInterval(timer);
    this.interest.destroy();
    this.attention.destroy();
    this.selection.destroy();
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.cluster.stop();
    this.body.destroy();
    this.root.remove();
  }
}

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;

/** The address of a cell: JupyterLab and Notebook 7 scroll to it. "" elsewhere. */
function linkTo(cell: string | undefined): string {
  const jupyter = "jpThemeLight" in document.body.dataset;
  return cell && jupyter ? `${location.origin}${location.pathname}#cell-id=${cell}` : "";
}
