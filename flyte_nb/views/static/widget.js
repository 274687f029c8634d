export default { render({ model, el }) { el.textContent = `flyte_nb run ${model.get("first").run ?? ""}`; } };
