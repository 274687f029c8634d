/** Times in the panel: where an action's time went, as a bar and in words, and its attempts. */

import { duration } from "../../format.ts";
import type { RunModel } from "../../model.ts";
import { P } from "../../phases.ts";
import type { Attempt, Detail } from "../../protocol.ts";
import { type Child, h } from "../dom.ts";
import { phaseIcon } from "../icons.ts";
import { section } from "./section.ts";

export class TimesSection {
  /** Draws the bar of an action that goes on. */
  private clock: (() => void) | null = null;
  private second = -1;

  constructor(private readonly model: RunModel) {}

  draw(detail: Detail): Child {
    this.clock = null;
    const { started } = detail;
    if (started === null) return null;
    const box = h("div", {});
    const draw = (): void => box.replaceChildren(...timeBar(detail, started, this.model.elapsed()));
    draw();
    if (detail.ended === null) this.clock = draw;
    return section("Time", box);
  }

  /** Draw again, once a second. */
  tick(): void {
    const second = Math.floor(this.model.elapsed());
    if (this.clock && second !== this.second) this.clock();
    this.second = second;
  }
}

function timeBar(detail: Detail, started: number, now: number): HTMLElement[] {
  const queued = Math.max(0, started - detail.queued);
  const ran = Math.max(0, (detail.ended ?? now) - started);
  const busy = Math.min(
    ran,
    detail.attempts.reduce((sum, one) => sum + one.busy, 0),
  );
  const waited = Math.min(ran, detail.waited ?? 0);
  // While an attempt runs, how long it held its slot is not known yet: all of the time that it does not await its actions.
  const running = detail.ended === null && busy === 0 ? ran - waited : busy;
  const awaiting = Math.min(waited, ran - running);
  // Between two attempts, and while it was parked: a person's time is none of the action's.
  const tried = detail.attempts.reduce(
    (sum, one) => sum + (one.started === null ? 0 : Math.max(0, (one.ended ?? detail.ended ?? now) - one.started)),
    0,
  );
  const between = detail.attempts.length ? Math.max(0, Math.min(ran - tried, ran - running - awaiting)) : 0;
  const suspended = `fnb-b-${P.PAUSED} fnb-hatch`;
  const parts = [
    { word: "queued", seconds: queued, look: `fnb-b-${P.QUEUED}` },
    { word: "running", seconds: running, look: `fnb-b-${P.RUNNING}` },
    { word: "awaiting its actions", seconds: awaiting, look: suspended },
    { word: "suspended", seconds: ran - running - awaiting - between, look: suspended },
    { word: "between attempts, or parked", seconds: between, look: `fnb-b-${P.QUEUED} fnb-hatch` },
  ].filter(({ seconds }) => seconds > 0.004 * (queued + ran) && seconds >= 0.005);
  const texts = parts.map(({ word, seconds }) => `${word} ${duration(seconds)}`);
  const bar = h(
    "div",
    { class: "fnb-bar fnb-times", role: "img", "aria-label": texts.join(", ") },
    parts.map(({ seconds, look }) => h("span", { class: look, style: { flexGrow: String(1000 * seconds) } })),
  );
  const keys = parts.map(({ look }, i) => h("span", { class: "fnb-key" }, h("i", { class: look }), texts[i]));
  return [bar, h("div", { class: "fnb-keys" }, keys)];
}

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
  const known = detail.workers?.indexOf(attempt.worker) ?? -1;
  const worker = known >= 0 ? `w${known}` : attempt.worker.replace(/^\w+:\/\//, "");
  return h(
    "div",
    { class: "fnb-attempt" },
    phaseIcon(code),
    h("span", {}, `${attempt.number + 1}${detail.max_attempts > 1 ? ` of ${detail.max_attempts}` : ""}`),
    h("span", { class: "fnb-num" }, took),
    h(
      "span",
      { class: "fnb-muted", title: attempt.worker },
      `${worker}${/^\d+$/.test(slot) ? ` slot ${slot}` : slot.startsWith("GPU") ? ` · ${slot}` : ""}${attempt.pid ? ` · pid ${attempt.pid}` : ""}`,
    ),
    error && detail.attempts.length > 1
      ? h("span", { class: "fnb-error" }, `${error.code}: ${error.message.split("\n")[0]}`)
      : null,
  );
}
