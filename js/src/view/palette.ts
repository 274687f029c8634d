/** Palette: colours of phases as a canvas understands them, following the page's theme. */

import { PHASE_NAMES } from "../phases.ts";
import { colorsOf } from "./dom.ts";

/** CSS colours of heat cells and spans by phase code. `el` must be in the page. */
export const phaseColors = (el: Element): string[] =>
  colorsOf(
    el,
    PHASE_NAMES.map((_, code) => `--fnb-h-${code}`),
  );

/** 0xAABBGGRR per phase code. */
function pixels(el: Element): Uint32Array {
  const out = new Uint32Array(256);
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  phaseColors(el).forEach((color, code) => {
    if (!probe) return;
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = color;
    probe.fillRect(0, 0, 1, 1);
    const [r = 0, g = 0, b = 0, a = 0] = probe.getImageData(0, 0, 1, 1).data;
    out[code] = ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  return out;
}

/** Pixels by phase code, kept until the theme changes. */
export class Palette {
  private known: Uint32Array | null = null;
  private readonly themes: MutationObserver;

  constructor(
    private readonly root: HTMLElement,
    changed: () => void,
  ) {
    this.themes = new MutationObserver(() => {
      this.known = null;
      changed();
    });
    this.themes.observe(document.body, {
      attributes: true,
      attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"],
    });
  }

  get colors(): Uint32Array {
    if (this.known) return this.known;
    const colors = pixels(this.root);
    // Outside the page nothing has a colour yet.
    if (this.root.isConnected) this.known = colors;
    return colors;
  }

  destroy(): void {
    this.themes.disconnect();
  }
}
