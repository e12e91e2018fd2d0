"use strict";
/** Bookmarks and notes of this browser, and their file to hand on. */
Page.notes = (() => {
  const { h, words, button, plural } = Page.dom;

  async function draw(main) {
    const all = [...Page.keep.notes()].sort((a, b) => a[0] - b[0]);
    const file = h("input", {
      type: "file",
      accept: ".json,application/json",
      class: "hidden-file",
      "aria-label": "notes to import",
      on: { change: take },
    });
    main.append(
      h(
        "div.list-head",
        h("h1", "Bookmarks and notes"),
        h("p.counts", plural(all.length, "latent")),
        h(
          "div.actions",
          h("label.button", "Import", file),
          button("Export", () => Page.dom.save("sparc-notes.json", Page.keep.text(), "application/json")),
          all.length
            ? h("a.button", { href: Page.route.link("latents", "", new URLSearchParams({ marked: "1" })) }, "As a list")
            : null,
        ),
      ),
      h("p.help", "They stay in this browser and are sent nowhere. Export them to keep them or to hand them on."),
      all.length
        ? h(
            "ul.noted",
            all.map(([latent, entry]) =>
              h(
                "li.panel",
                Page.cards.card(latent, new URLSearchParams({ marked: "1" })),
                h(
                  "div",
                  h("p", entry.marked ? h("span.badge.shared", "★ bookmarked") : null),
                  entry.note ? words(entry.note, 500, "blockquote") : null,
                  button("Remove", () => {
                    Page.keep.set(latent, { marked: false, note: "" });
                    Page.route.set({});
                  }),
                ),
              ),
            ),
          )
        : h("p.empty", "None yet. ", h("kbd", "b"), " on the page of a latent bookmarks it."),
    );
  }

  async function take(event) {
    const [file] = event.target.files;
    if (!file) return;
    try {
      const added = Page.keep.load(await file.text());
      Page.route.set({});
      Page.dom.say(`${plural(added, "latent")} imported`);
    } catch (error) {
      Page.dom.say(`Nothing was imported: ${error.message}`);
    }
  }

  return { draw };
})();
