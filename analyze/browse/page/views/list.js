"use strict";
/** The list of latents: only the rows in sight are in the document, whatever their number. */
Page.list = (() => {
  const { h, words, count, button, plural } = Page.dom;
  const AHEAD = 3; // rows beyond the edges

  async function draw(main) {
    const { params } = Page.route.read();
    const question = Page.query.parse(params);
    const latents = await Page.query.answer(question);
    main.append(
      h(
        "div.list-head",
        h("h1", "Concepts"),
        h("p.counts", { role: "status" }, summary(question, latents)),
        h(
          "div.actions",
          [...params.keys()].some((key) => !["sort", "cols"].includes(key))
            ? button("Clear filters", () => Page.route.go("latents", "", pick(params, ["sort", "cols"])))
            : null,
          button("CSV", () => Page.dom.save("concepts.csv", Page.tables.csv(latents), "text/csv")),
          button("JSON", () => Page.dom.save("concepts.json", Page.tables.json(latents), "application/json")),
        ),
      ),
      h("div.list-body", Page.filters.draw(question), table(latents, question)),
    );
  }

  const pick = (params, keys) => new URLSearchParams([...params].filter(([key]) => keys.includes(key)));

  function summary(question, latents) {
    const dead = Page.concepts.deadCount();
    return [
      h("b", count(latents.length)),
      ` of ${plural(Page.concepts.total(), "latent")}`,
      question.dead || !dead ? "" : `; ${count(dead)} dead ones hidden`,
      question.q ? [", with ", words(`“${question.q}”`, 60)] : "",
      question.class ? [", class ", words(question.class, 60)] : "",
      question.lasso ? ", within the lasso of the map" : "",
    ];
  }

  /** The virtual table. */
  function table(latents, question) {
    const chosen = Page.rows.columns();
    const body = h("div.rows", { role: "rowgroup" });
    const scroll = h(
      "div.scroll",
      {
        role: "grid",
        "aria-label": "Latents",
        "aria-rowcount": latents.length + 1,
        tabindex: 0,
        vars: { "--columns": chosen.length },
      },
      header(chosen, question),
      body,
    );
    if (!latents.length)
      body.append(
        h("p.empty", "No latent answers this. Widen a range, or ", h("a", { href: "#/latents" }, "start again"), "."),
      );
    const drawn = new Map();
    let active = -1;
    let tall = 64;

    function update() {
      if (!scroll.isConnected) return;
      tall = parseFloat(getComputedStyle(scroll).getPropertyValue("--row")) || 64;
      body.style.height = `${latents.length * tall}px`;
      const from = Math.max(0, Math.floor(scroll.scrollTop / tall) - AHEAD);
      const to = Math.min(latents.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / tall) + AHEAD);
      for (const [at, element] of drawn)
        if (at < from || at >= to) {
          element.remove();
          drawn.delete(at);
        }
      for (let at = from; at < to; at += 1) {
        if (drawn.has(at)) continue;
        const element = Page.rows.row(latents[at], chosen, at);
        element.style.transform = `translateY(${at * tall}px)`;
        if (at === active) element.classList.add("active");
        drawn.set(at, element);
        body.append(element);
      }
    }

    function move(step) {
      if (!latents.length) return;
      drawn.get(active)?.classList.remove("active");
      active = Math.min(latents.length - 1, Math.max(0, active + step));
      const top = active * tall;
      const head = scroll.querySelector(".head").offsetHeight;
      if (top < scroll.scrollTop) scroll.scrollTop = top;
      if (top + tall + head > scroll.scrollTop + scroll.clientHeight)
        scroll.scrollTop = top + tall + head - scroll.clientHeight;
      update();
      const element = drawn.get(active);
      element.classList.add("active");
      element.querySelector("a").focus({ preventScroll: true });
    }

    let asked = false;
    scroll.addEventListener(
      "scroll",
      () => {
        if (asked) return;
        asked = true;
        requestAnimationFrame(() => {
          asked = false;
          update();
        });
      },
      { passive: true },
    );
    new ResizeObserver(update).observe(scroll);
    const page = () => Math.max(1, Math.floor(scroll.clientHeight / tall) - 2);
    Page.list.keys = {
      ArrowDown: () => move(1),
      j: () => move(1),
      ArrowUp: () => move(-1),
      k: () => move(-1),
      PageDown: () => move(page()),
      PageUp: () => move(-page()),
      Home: () => move(-Infinity),
      End: () => move(Infinity),
    };
    requestAnimationFrame(update);
    return scroll;
  }

  function header(chosen, question) {
    const sorted = (key) => (question.sort !== key ? "none" : question.descending ? "descending" : "ascending");
    const sorter = (key, label, help, first) =>
      h(
        "span",
        { role: "columnheader", "aria-sort": sorted(key), class: "cell" },
        button(
          label,
          () =>
            Page.route.set({
              sort: (question.sort === key ? !question.descending : first) ? `-${key}` : key,
            }),
          { title: help, class: "sorter" },
        ),
      );
    return h(
      "div.head",
      { role: "row" },
      sorter("latent", "latent", "The number of the latent", false),
      h(
        "span",
        { role: "columnheader", class: "cell concept" },
        button("by interest", () => Page.route.set({ sort: "-interest" }), {
          class: "sorter",
          "aria-pressed": String(question.sort === "interest"),
          title: Page.concepts.column("interest").help,
        }),
      ),
      chosen.map((column) => sorter(column.key, Page.rows.heading(column), column.help, column.kind !== "text")),
    );
  }

  return { draw, keys: {} };
})();
