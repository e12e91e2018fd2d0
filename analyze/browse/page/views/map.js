"use strict";
/** The map of latents: near is alike. A lasso makes a list of what it holds. */
Page.map = (() => {
  const { h, words, button, plural, count } = Page.dom;

  const HINT =
    "Point at a latent to see its pictures; click to open it. With the lasso, drag around latents to list them.";

  async function draw(main) {
    const points = await Page.places.load();
    if (!points) throw new Page.Missing("This site has no map: make it again without --no-map.");
    const { params } = Page.route.read();
    const question = Page.query.parse(params);
    const kept = new Set(await Page.query.answer({ ...question, lasso: "" }));
    const held = question.lasso ? (await Page.query.answer(question)).length : null;
    const shown = h("aside.hovered", { "aria-live": "polite" }, h("p.help", HINT));
    const scatter = Page.scatter.create(points, {
      kept: (latent) => kept.has(latent),
      hue: colour,
      title: Page.concepts.title,
      order: order(points),
      lasso: question.lasso ? Page.places.corners(question.lasso) : [],
      view: visible(params),
      hover: (latent) => latent !== null && Page.dom.replace(shown, Page.cards.card(latent, Page.route.listing())),
      open: (latent) => Page.route.go("latent", latent, Page.route.listing()),
      chosen: (corners) => Page.route.set({ lasso: Page.places.text(corners), tool: "lasso" }),
      moved: ({ scale, x, y }) =>
        Page.route.set({ at: [scale, x, y].map((part) => part.toFixed(3)).join("_") }, { draw: false }),
    });
    Page.map.keys = { Escape: scatter.reset };
    const there = points.latents.filter((latent) => kept.has(latent)).length;
    const counts = [
      `${count(there)} of ${plural(points.latents.length, "latent")}`,
      held === null ? "" : [", ", h("b", count(held)), " in the lasso"],
    ];
    main.append(
      h("div.list-head", h("h1", "Map"), h("p.counts", { role: "status" }, counts), actions(scatter, params, held)),
      h("p.help", words(points.method, 160), ". Near is alike; how far apart clusters lie says little."),
      h("div.map-body", scatter.element, h("div.map-side", legend(), shown)),
    );
  }

  /** The window of the map that the address asks for. */
  function visible(params) {
    const [scale, x, y] = (params.get("at") ?? "").split("_").map(Number);
    return [scale, x, y].every(Number.isFinite) && scale >= 0.5 && scale <= 60
      ? { scale, x, y }
      : { scale: 1, x: 0, y: 0 };
  }

  /** Places of the points by interest: those first that are named first. */
  function order(points) {
    const interest = (i) => Page.concepts.value("interest", points.latents[i]) || 0;
    return [...points.latents.keys()].sort((a, b) => interest(b) - interest(a));
  }

  function actions(scatter, params, held) {
    const chosen = params.get("tool") === "lasso" ? "lasso" : "pan";
    scatter.tool(chosen);
    const tool = ([name, label]) =>
      button(label, () => Page.route.set({ tool: name === "pan" ? null : name }), {
        "aria-pressed": String(name === chosen),
      });
    const tools = Object.entries({ pan: "Move", lasso: "Lasso" }).map(tool);
    const list = Page.route.link("latents", "", Page.route.listing());
    return h(
      "div.actions",
      h("div.choice", { role: "group", "aria-label": "Tool" }, tools),
      button("+", () => scatter.zoom(1.4), { "aria-label": "zoom in" }),
      button("−", () => scatter.zoom(1 / 1.4), { "aria-label": "zoom out" }),
      button("Reset", scatter.reset),
      held === null ? null : button("Remove lasso", () => Page.route.set({ lasso: null })),
      held === null ? null : h("a.button.primary", { href: list }, `List these ${count(held)}`),
    );
  }

  /** The property with the colour of a latent: that of the only stream that has it, the accent where all share it. */
  function colour(latent) {
    if (Page.concepts.value("shared", latent) === 1) return "--accent";
    const only = Page.concepts.text("only", latent).split(", ")[0];
    const place = only ? Page.concepts.place(only) : -1;
    return place < 0 ? "--mute" : `--stream-${place % 6}`;
  }

  function legend() {
    const entry = (kind, label) => h("li", h("i", { class: `dot ${kind}` }), label);
    const several = Page.concepts.names().length > 1;
    return h(
      "ul.legend",
      several
        ? [
            entry("accent", "shared by all"),
            Page.concepts.names().map((name) => entry(Page.figures.hue(name), h("span", "only ", words(name, 30)))),
            entry("mute", "other"),
          ]
        : entry("mute", "latent"),
    );
  }

  return { draw, keys: {} };
})();
