// Extension of JupyterLab and Notebook 7: a panel of theirs for what the view keeps beside the notebook (js/src/view/dock.ts).
// As a module federation container by hand: what a bundler would make of it is a hundred times as long. The view does without it.
(() => {
  let shared = {};

  /** What the front end shares under a name, whichever version it has. */
  const load = async (name) => (await Object.values(shared[name])[0].get())();

  const activate = (app) => {
    window.flyteNbPanel = async (title, node) => {
      const { Widget } = await load("@lumino/widgets");
      const panel = new Widget({ node });
      panel.id = `flyte-nb-${Math.random().toString(36).slice(2)}`;
      panel.title.label = panel.title.caption = title;
      panel.title.closable = true;
      // Notebook 7 has one document to a page, and its panels at the side.
      if (app.name === "JupyterLab") app.shell.add(panel, "main", { mode: "split-right", activate: false });
      else app.shell.add(panel, "right");
      if (app.name !== "JupyterLab") app.shell.activateById(panel.id);
    };
  };

  const extension = { id: "flyte-nb:panel", autoStart: true, activate };
  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB["flyte-nb"] = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => () => ({ __esModule: true, default: extension }),
  };
})();
