/** Times in the panel: where an action's time went, as a bar and in words, what it waits for, and its attempts. */

import { bytesText, duration, percent } from "../../format.ts";
import type { RunModel } from "../../model.ts";
import { isTerminal, P } from "../../phases.ts";
import type { Attempt, Detail, Part } from "../../protocol.ts";
import { type Child, h, setText, show } from "../dom.ts";
import { phaseIcon } from "../icons.ts";
import { section } from "./section.ts";

/** Share of the whole, and seconds, from which on a part is worth a word. */
const WORTH = 0.004;
const WORTH_S = 0.005;

/** A time as a bar of its parts, and the words of each. */
export function partsBar(parts: Part[], cpu = 0): HTMLElement[] {
  const whole = parts.reduce((sum, [, , seconds]) => sum + seconds, 0);
  const largest = Math.max(0, ...parts.map(([, , seconds]) => seconds));
  const worth = parts.filter(
    ([, , seconds]) => seconds > 0 && (seconds === largest || (seconds > WORTH * whole && seconds >= WORTH_S)),
  );
  const texts = worth.map(([key, word, seconds]) => {
    const share = key === "running" && cpu && seconds ? ` (CPU ${percent(cpu / seconds)})` : "";
    return `${word} ${duration(seconds)}${share}`;
  });
  const bar = h(
    "div",
    { class: "fnb-bar fnb-times", role: "img", "aria-label": texts.join(", ") },
    worth.map(([key, , seconds]) => h("span", { class: `fnb-t-${key}`, style: { flexGrow: String(1000 * seconds) } })),
  );
  const keys = worth.map(([key], i) => h("span", { class: "fnb-key" }, h("i", { class: `fnb-t-${key}` }), texts[i]));
  return [bar, h("div", { class: "fnb-keys" }, keys)];
}

export class TimesSection {
  /** Draws the bar of an action that goes on. */
  private clock: (() => void) | null = null;
  private second = -1;
  private readonly why = h("div", { class: "fnb-why", "data-testid": "fnb-why" });
  private waits = "";

  /** `ask`: why an action waits. */
  constructor(
    private readonly model: RunModel,
    private readonly ask: (action: string) => Promise<string>,
  ) {}

  draw(detail: Detail): Child {
    this.clock = null;
    this.waits = "";
    const { parts } = detail;
    if (!parts?.length) return null;
    const box = h("div", {});
    const cpu = detail.attempts.reduce((sum, one) => sum + one.cpu, 0);
    const draw = (): void => {
      const since = detail.grows ? Math.max(0, this.model.elapsed() - (detail.at ?? 0)) : 0;
      box.replaceChildren(...partsBar(grown(parts, detail.grows, since), cpu));
    };
    draw();
    if (detail.grows) this.clock = draw;
    const row = this.model.rows.get(detail.name) ?? detail.row;
    const queued = detail.started === null && !isTerminal(this.model.phaseOf(row));
    if (queued && detail.why !== undefined && !this.model.lost) this.waits = detail.name;
    this.say(queued ? (detail.why ?? "") : "");
    return section("Time", this.why, box);
  }

  private say(why: string): void {
    setText(this.why, why && `Waits: ${why}`);
    show(this.why, Boolean(why));
  }

  /** Draw again, once a second; and ask again what it waits for. */
  tick(): void {
    const second = Math.floor(this.model.elapsed());
    if (second !== this.second) {
      this.clock?.();
      const { waits } = this;
      if (waits)
        this.ask(waits).then(
          (why) => waits === this.waits && this.say(why),
          () => {},
        );
    }
    this.second = second;
  }
}

/** The parts, with so many seconds more in the one that grows. */
function grown(parts: Part[], key: string | undefined, more: number): Part[] {
  if (!key || !more) return parts;
  const known = parts.some(([one]) => one === key);
  const all: Part[] = known ? parts : [...parts, [key, GROWING[key] ?? key, 0]];
  return all.map(([one, word, seconds]) => [one, word, one === key ? seconds + more : seconds]);
}

/** Words of parts that may begin to grow after the detail was made. */
const GROWING: Record<string, string> = {
  slot: "waited for a slot",
  running: "running",
  children: "awaiting its actions",
  person: "waiting for a person",
  between: "between attempts",
};

export function attemptsSection(detail: Detail, now: number): Child {
  const { attempts } = detail;
  if (!attempts.length) return null;
  return section(
    attempts.length > 1 ? "Attempts" : "Attempt",
    attempts.map((attempt) => attemptLine(attempt, detail, now)),
  );
}

function attemptLine(attempt: Attempt, detail: Detail, now: number): HTMLElement {
  const { error, ok, slot } = attempt;
  const took = attempt.started === null ? "" : duration((attempt.ended ?? now) - attempt.started);
  const code = ok === null ? P.RUNNING : ok ? P.SUCCEEDED : P.FAILED;
  return h(
    "div",
    { class: "fnb-attempt" },
    phaseIcon(code),
    h("span", {}, `${attempt.number + 1}${detail.max_attempts > 1 ? ` of ${detail.max_attempts}` : ""}`),
    h("span", { class: "fnb-num" }, took),
    h(
      "span",
      { class: "fnb-muted", title: attempt.address },
      `${attempt.worker}${/^\d+$/.test(slot) ? ` slot ${slot}` : slot.startsWith("GPU") ? ` · ${slot}` : ""}${attempt.pid ? ` · pid ${attempt.pid}` : ""}`,
    ),
    h("span", { class: "fnb-muted" }, used(attempt)),
    error && detail.attempts.length > 1
      ? h("span", { class: "fnb-error" }, `${error.code}: ${error.message.split("\n")[0]}`)
      : null,
  );
}

/** What was measured of an attempt. */
function used({ cpu, memory, taken, given }: Attempt): string {
  return [
    cpu ? `CPU ${duration(cpu)}` : "",
    memory ? `process up to ${bytesText(memory)}` : "",
    taken ? `${bytesText(taken)} in` : "",
    given ? `${bytesText(given)} out` : "",
  ]
    .filter(Boolean)
    .join(" · ");
}
