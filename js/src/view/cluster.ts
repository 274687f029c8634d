/** Workers of the cluster, live: how busy and full each is, what runs there. Asks once a second, while somebody can see it. */

import { bytesText, percent } from "../format.ts";
import type { WorkerLoad } from "../protocol.ts";
import { h, keepFocus, setText, show } from "./dom.ts";

/** Milliseconds between two looks. */
const EVERY = 1_000;
/** Share of its memory from which on a worker is short of it. */
const NEARLY_FULL = 0.7;

/** What the workers do now; `said`: why there are none. */
export interface ClusterNow {
  workers: WorkerLoad[];
  said: string;
}

export interface ClusterHost {
  look(): Promise<ClusterNow>;
  /** Open an action of this view's run; null where that is not what it shows. */
  open: ((name: string) => void) | null;
  /** The run that is shown, "" for none. */
  run(): string;
  /** Close the strip; null where it stays. */
  close: (() => void) | null;
}

export class ClusterStrip {
  readonly el: HTMLElement;
  private readonly said = h("span", {});
  private readonly list = h("div", { role: "list", "aria-label": "Workers" });
  private timer: ReturnType<typeof setInterval> | null = null;
  private seen = false;
  private asking = false;
  private readonly observer = new IntersectionObserver((entries) => {
    this.seen = entries.some((entry) => entry.isIntersecting);
    if (this.seen) this.look();
  });

  constructor(private readonly host: ClusterHost) {
    const { close } = host;
    this.el = h(
      "div",
      { class: "fnb-cluster", role: "group", "aria-label": "Cluster", hidden: true, "data-testid": "fnb-cluster" },
      h(
        "div",
        { class: "fnb-clusterhead" },
        this.said,
        close ? h("button", { class: "fnb-btn", type: "button", onclick: () => close() }, "Hide") : null,
      ),
      this.list,
    );
  }

  get open(): boolean {
    return this.timer !== null;
  }

  start(): void {
    if (this.timer !== null) return;
    show(this.el, true);
    this.timer = setInterval(() => this.look(), EVERY);
    this.observer.observe(this.el);
    this.look(true);
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    this.observer.disconnect();
    show(this.el, false);
  }

  /** The kernel is gone: what was known last stays, and says so. */
  lost(): void {
    if (!this.open) return;
    if (this.timer !== null) clearInterval(this.timer);
    setText(this.said, "Workers, as they were last");
  }

  private look(first = false): void {
    const visible = first || (this.seen && document.visibilityState === "visible" && this.el.isConnected);
    if (!visible || this.asking || !this.open) return;
    this.asking = true;
    this.host
      .look()
      .then(
        ({ workers, said }) => this.draw(workers, said),
        (error: Error) => error.message !== "closed" && setText(this.said, error.message),
      )
      .finally(() => {
        this.asking = false;
      });
  }

  draw(workers: WorkerLoad[], said: string): void {
    const slots = workers.reduce((sum, one) => sum + one.slots, 0);
    const busy = workers.reduce((sum, one) => sum + one.busy, 0);
    const counts = `${workers.length} worker${workers.length === 1 ? "" : "s"}, ${busy} of ${slots} slots busy`;
    setText(this.said, said || counts);
    keepFocus(this.list, () => this.list.replaceChildren(...workers.map((one) => this.worker(one))));
  }

  private worker(load: WorkerLoad): HTMLElement {
    const { cpu, limit, memory, slots } = load;
    const share = limit ? memory / limit : 0;
    const size = `${bytesText(memory)}${limit ? ` of ${bytesText(limit)}` : ""}`;
    return h(
      "div",
      { class: "fnb-load", role: "listitem" },
      h("span", { class: "fnb-loadname", title: load.address }, load.name),
      load.state === "starting"
        ? h("span", { class: "fnb-amiss" }, "is being started")
        : [
            gauge(
              `CPU ${percent(cpu)}`,
              cpu / Math.max(1, slots),
              "fnb-t-running",
              "CPU of its process; 100 %: one core",
            ),
            gauge(size, share, share > NEARLY_FULL ? "fnb-b-7" : "fnb-b-6", `Memory: ${size}`, share > NEARLY_FULL),
            h(
              "span",
              { title: `${load.busy} of ${slots} slots busy` },
              `${load.busy}/${slots}`,
              h("span", { class: "fnb-slotword fnb-muted" }, slots === 1 ? " slot" : " slots"),
            ),
            h("div", { class: "fnb-runs" }, this.runs(load)),
          ],
      load.spilled ? h("span", { class: "fnb-amiss" }, `${bytesText(load.spilled)} spilled to disk`) : null,
      load.amiss ? h("span", { class: "fnb-amiss" }, load.amiss) : null,
    );
  }

  private runs(load: WorkerLoad): HTMLElement[] {
    const { open } = this.host;
    return load.runs.map(([id, label, name]) => {
      const [run, number] = id.split("/");
      const own = run === this.host.run();
      const text = `${own ? number : id} ${label}`;
      return own && open
        ? h("button", { class: "fnb-link", type: "button", title: label, onclick: () => open(name) }, text)
        : h("span", { title: label }, text);
    });
  }
}

function gauge(text: string, share: number, look: string, title: string, full = false): HTMLElement {
  const width = `${Math.min(100, Math.max(0, 100 * share))}%`;
  return h(
    "div",
    { class: "fnb-gauge", title },
    h("span", { class: full ? "fnb-full" : null }, text),
    h("div", { class: "fnb-bar" }, h("span", { class: look, style: { flexBasis: width } })),
  );
}
