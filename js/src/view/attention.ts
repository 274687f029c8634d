/** Attention: the tab's title tells how far a long run is, a notification that it has ended or waits for the reader. */

import { duration, number, progress, summary } from "../format.ts";
import type { RunModel } from "../model.ts";
import { endedOf, P, phaseWord } from "../phases.ts";

/** Seconds from which on a run is long. */
const LONG = 30;
/** What the reader has chosen, in this browser. */
const TITLE = "flyte-nb-title";
const NOTIFY = "flyte-nb-notify";

/** What each view wants before the page's title; the latest is shown. */
const wanted = new Map<object, string>();
let shown = "";

/** Put the latest view's words before the title; the page may have set another one meanwhile. */
function paint(): void {
  const words = [...wanted.values()].at(-1);
  const own = shown && document.title.startsWith(shown) ? document.title.slice(shown.length) : document.title;
  shown = words ? `${words} · ` : "";
  if (document.title !== shown + own) document.title = shown + own;
}

export class Attention {
  private wasRunning = false;
  private waited = 0;
  private readonly onVisible = (): void => {
    if (!document.hidden && !this.wasRunning) this.clear();
  };

  constructor(
    private readonly root: HTMLElement,
    private readonly say: (text: string, error: boolean) => void,
  ) {
    document.addEventListener("visibilitychange", this.onVisible);
  }

  /** A message has come. Not with the frames, of which a hidden page has none. */
  look(model: RunModel): void {
    const { header, running } = model;
    if (!header) return;
    const { wasRunning, waited } = this;
    this.wasRunning = running;
    this.waited = header.counts[P.PAUSED] ?? 0;
    if (!wasRunning && !running) return;
    const long = model.elapsed() >= LONG;
    if (this.waited > waited) this.notify(`${header.run} waits for you`, `${header.title}\n${summary(header.counts)}`);
    if (!running) {
      if (long) this.ended(model);
      else this.clear();
    } else if (long && stored(TITLE) !== "off") {
      const { share, counts } = header;
      wanted.set(this, share !== undefined ? progress(share) : `${number(endedOf(counts))} done`);
      paint();
    }
  }

  private ended(model: RunModel): void {
    const { header } = model;
    if (!header) return;
    const word = model.lost ? "lost" : phaseWord(header.phase);
    const said = `${header.title}\n${summary(header.counts)} in ${duration(model.elapsed())}`;
    this.notify(`${header.run} ${word}`, said);
    if (document.hidden && stored(TITLE) !== "off") {
      wanted.set(this, word); // until the reader is back
      paint();
    } else this.clear();
  }

  private notify(title: string, body: string): void {
    if (!document.hidden || stored(NOTIFY) !== "on" || !granted()) return;
    // The same text from several views of a run is one notification.
    const note = new Notification(title, { body, tag: title });
    note.onclick = () => {
      window.focus();
      this.root.scrollIntoView({ block: "center" });
      note.close();
    };
  }

  private clear(): void {
    if (wanted.delete(this)) paint();
  }

  /** Entries of the menu. */
  items(): { label: string; run(): void }[] {
    const titled = stored(TITLE) !== "off";
    const notified = stored(NOTIFY) === "on" && granted();
    return [
      {
        label: titled ? "No progress in the tab's title" : "Progress in the tab's title",
        run: () => {
          store(TITLE, titled ? "off" : "on");
          if (titled) this.clear();
        },
      },
      {
        label: notified ? "No notification when a run ends" : "Notify me when a run ends or waits",
        run: () => (notified ? store(NOTIFY, "off") : this.ask()),
      },
    ];
  }

  private ask(): void {
    if (!("Notification" in window)) {
      this.say("This page cannot show notifications.", true);
      return;
    }
    Notification.requestPermission().then((answer) => {
      store(NOTIFY, answer === "granted" ? "on" : "off");
      if (answer === "granted")
        this.say(`You are told when a run of over ${LONG} s ends or waits for you, while this page is hidden.`, false);
      else this.say("The browser does not allow this page notifications: see its settings.", true);
    });
  }

  destroy(): void {
    document.removeEventListener("visibilitychange", this.onVisible);
    this.clear();
  }
}

const granted = (): boolean => "Notification" in window && Notification.permission === "granted";

/** Storage may be forbidden: then what is chosen holds for nothing. */
function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // As above.
  }
}
