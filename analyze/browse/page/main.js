"use strict";
/** Draw what the address says, whenever it changes. */
(() => {
  const VERSION = 1;
  const VIEWS = {
    start: Page.start,
    latents: Page.list,
    latent: Page.latent,
    map: Page.map,
    bias: Page.bias,
    compare: Page.compare,
    notes: Page.notes,
    about: Page.about,
  };
  const { h, clean } = Page.dom;
  const scrolled = new Map(); // where lists were left, by address
  let shown = { hash: null, view: null, id: null };
  let turn = 0;

  async function draw() {
    const mine = (turn += 1);
    const { view, id, params } = Page.route.read();
    const main = document.querySelector("#main");
    const same = shown.view === view && shown.id === id;
    const before = same ? remember(main) : null;
    leave();
    const next = h("div", { class: `view view-${view}` });
    try {
      if (!Object.hasOwn(VIEWS, view)) throw new Page.Missing(`This page has no view “${clean(view, 40)}”.`);
      await VIEWS[view].draw(next, id);
    } catch (error) {
      if (!(error instanceof Page.Missing)) console.error(error);
      next.replaceChildren(
        h(
          "div.failed",
          { role: "alert" },
          h("h1", "Nothing to show"),
          h("p", clean(error.message, 400)),
          h("p", h("a", { href: "#/" }, "To the start")),
        ),
      );
    }
    if (mine !== turn) return; // the address has changed meanwhile
    main.replaceChildren(next);
    Page.frame.at(view, params);
    shown = { hash: location.hash, view, id };
    if (before) before(next);
    else window.scrollTo(0, scrolled.get(`window ${location.hash}`) ?? 0);
    const list = next.querySelector(".scroll:not(.preview)");
    if (list && !same) list.scrollTop = scrolled.get(location.hash) ?? 0;
    document.documentElement.dataset.drawn = String(mine);
  }

  function leave() {
    if (shown.hash === null) return;
    const list = document.querySelector(".scroll:not(.preview)");
    if (list) scrolled.set(shown.hash, list.scrollTop);
    scrolled.set(`window ${shown.hash}`, window.scrollY);
  }

  /** What a person has opened and where they are, to be as it was when a control draws its view again. */
  function remember(main) {
    const all = (root) => [...root.querySelectorAll("details")];
    const name = (one) => one.querySelector("summary").textContent;
    const open = new Map(all(main).map((one) => [name(one), one.open]));
    const key = (one) =>
      `${one.tagName} ${one.getAttribute("aria-label") ?? one.id} ${one.labels?.[0]?.textContent ?? (one.tagName === "INPUT" ? "" : one.textContent)}`;
    const focused = main.contains(document.activeElement) ? key(document.activeElement) : null;
    const side = main.querySelector(".filters")?.scrollTop;
    const [x, y] = [window.scrollX, window.scrollY];
    return (next) => {
      for (const one of all(next)) if (open.has(name(one))) one.open = open.get(name(one));
      if (focused)
        [...next.querySelectorAll("button, input, select, a, summary, [role=button]")]
          .find((one) => key(one) === focused)
          ?.focus({ preventScroll: true });
      if (side)
        requestAnimationFrame(() => {
          next.querySelector(".filters").scrollTop = side;
        });
      window.scrollTo(x, y);
    };
  }

  /** Show why there is no page. */
  const refuse = (title, text) =>
    document.body.append(h("main.failed", { role: "alert" }, h("h1", title), h("p", text)));

  const index = Page.data.index();
  if (!index) {
    refuse(
      "The page's data are missing",
      "data/index.js is missing or damaged: copy the whole folder of the site, or make it again.",
    );
    return;
  }
  if (index.version !== VERSION) {
    refuse(
      "Another version",
      `The data are of version ${clean(index.version, 20)}, this page reads version ${VERSION}.`,
    );
    return;
  }
  Page.keep.theme();
  Page.frame.draw();
  window.addEventListener("hashchange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    Page.frame.paint();
    draw();
  });
  draw();
})();
