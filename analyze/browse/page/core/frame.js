"use strict";
/** What is around every view: title, ways, search, theme, help, and the keys. */
Page.frame = (() => {
  const { h, words, button, clean } = Page.dom;
  const HELP = [
    ["/", "search"],
    ["↑ ↓ or k j", "through the list"],
    ["Enter", "open the latent"],
    ["← → or k j", "previous and next latent"],
    ["m", "independent or joint"],
    ["b", "bookmark"],
    ["Escape", "back to the list; close"],
    ["+ −", "zoom the map"],
    ["?", "this help"],
  ];

  function draw() {
    const { title, views } = Page.data.index();
    const ways = [
      ["start", "Start", true],
      ["latents", "Concepts", true],
      ["map", "Map", views.map],
      ["bias", "Bias", views.bias],
      ["compare", "Compare", views.compare],
      ["notes", "Notes", true],
      ["about", "About", true],
    ];
    document.title = `${clean(title, 80)} · SPARC`;
    document.body.append(
      h(
        "a.skip",
        {
          href: "#main",
          on: {
            click: (event) => {
              event.preventDefault();
              document.querySelector("#main").focus();
            },
          },
        },
        "To the content",
      ),
      h(
        "header.top",
        h("a.brand", { href: "#/" }, h("b", "SPARC"), words(title, 60)),
        h(
          "nav.ways",
          { "aria-label": "Views" },
          ways
            .filter(([, , there]) => there)
            .map(([view, label]) => h("a", { href: Page.route.link(view), "data-view": view }, label)),
        ),
        search(),
        button(
          "",
          () => {
            Page.keep.theme(Page.keep.theme() === "dark" ? "light" : "dark");
            paint();
            Page.route.set({});
          },
          { id: "theme", class: "icon" },
        ),
        button("?", help, { id: "help", class: "icon", "aria-label": "Help", title: "Help" }),
      ),
      h("main", { id: "main", tabindex: -1 }),
      h("p", { id: "said", role: "status", "aria-live": "polite" }),
    );
    paint();
    document.addEventListener("keydown", keys);
  }

  function paint() {
    const dark = Page.keep.theme() === "dark";
    const theme = document.querySelector("#theme");
    theme.textContent = dark ? "☀" : "☾";
    theme.setAttribute("aria-label", dark ? "Light theme" : "Dark theme");
    theme.title = dark ? "Light theme" : "Dark theme";
  }

  function search() {
    const input = h("input", {
      id: "search",
      type: "search",
      placeholder: "Search words, classes, numbers",
      "aria-label": "Search concepts",
      autocomplete: "off",
      spellcheck: "false",
      list: "suggested",
      on: {
        focus: () => Page.words.load().catch((error) => Page.dom.say(error.message)),
        input: suggest,
        keydown: leave,
      },
    });
    const list = h("datalist", { id: "suggested" });
    function suggest() {
      const before = input.value
        .split(/[\s,]+/)
        .slice(0, -1)
        .join(" ");
      Page.dom.replace(
        list,
        Page.words
          .suggestions(input.value)
          .map(({ word }) => h("option", { value: before ? `${before} ${word}` : word })),
      );
      clearTimeout(suggest.timer);
      suggest.timer = setTimeout(ask, 120);
    }
    function ask() {
      const { view, params } = Page.route.read();
      if (view === "latents" || view === "map") Page.route.set({ q: input.value.trim() });
      else if (input.value.trim()) Page.route.go("latents", "", new URLSearchParams({ q: input.value.trim() }));
      else return;
      if (params.get("q") === input.value.trim()) return;
      input.focus();
    }
    function leave(event) {
      if (event.key === "Enter") {
        clearTimeout(suggest.timer);
        ask();
        document.querySelector(".scroll")?.focus();
      }
      if (event.key === "Escape") {
        input.blur();
        event.stopPropagation();
      }
    }
    return h("form.search", { role: "search", on: { submit: (event) => event.preventDefault() } }, input, list);
  }

  function help() {
    const dialog = h(
      "dialog.plain.help-dialog",
      { "aria-label": "Help" },
      h("h2", "How to read this page"),
      h(
        "ul",
        h(
          "li",
          h("b", "Latent"),
          ": one concept of the dictionary. ",
          h("b", "Stream"),
          ": the features of one model.",
        ),
        h(
          "li",
          h("b", "Independent"),
          ": every stream selects its own latents; this is what was learnt. ",
          h("b", "Joint"),
          ": all select together, so that they agree in part by construction; such figures are grey.",
        ),
        h(
          "li",
          Page.figures.bar({
            value: 0.6,
            low: 0.5,
            high: 0.7,
            range: [0, 1],
            label: "an example",
            controls: [{ name: "chance", value: 0.2 }],
          }),
          " Bar: the figure. Whisker: its 95 % interval. Tick: a control, which it must exceed.",
        ),
        h("li", "Outlined pictures are shown by several streams."),
      ),
      h("h2", "Keys"),
      h(
        "dl.keys",
        HELP.map(([key, text]) => [h("dt", h("kbd", key)), h("dd", text)]),
      ),
      h("form", { method: "dialog" }, h("button.primary", "Close")),
    );
    Page.dom.present(dialog);
  }

  function keys(event) {
    const typing = event.target.closest?.("input, textarea, select") || document.querySelector("dialog[open]");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const { view } = Page.route.read();
    const own = { latents: Page.list.keys, latent: Page.latent.keys, map: Page.map.keys }[view] ?? {};
    const act = {
      "/": () => document.querySelector("#search").focus(),
      "?": help,
      ...own,
      ...(view === "latent" ? { Escape: () => Page.route.go("latents", "", Page.route.listing()) } : {}),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** Mark where one is, in the ways and in the search field. */
  function at(view, params) {
    for (const way of document.querySelectorAll(".ways a")) {
      if (way.dataset.view === (view === "latent" ? "latents" : view)) way.setAttribute("aria-current", "page");
      else way.removeAttribute("aria-current");
    }
    const input = document.querySelector("#search");
    if (document.activeElement !== input) input.value = params.get("q") ?? "";
  }

  return { draw, at, paint };
})();
