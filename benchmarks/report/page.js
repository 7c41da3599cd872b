"use strict";
// Draws every chart, and again where the reader switches between light and dark or between a wide page and a narrow one.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts");
  const themes = read("themes");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 40rem)");
  let drawn = [];

  // On a phone a second column of a legend would not fit.
  const config = () => {
    const theme = themes[dark.matches ? "dark" : "light"];
    return narrow.matches ? { ...theme, legend: { ...theme.legend, columns: 1 } } : theme;
  };

  const draw = async () => {
    drawn.forEach((view) => view.finalize());
    drawn = await Promise.all(
      [...document.querySelectorAll("[data-chart]")].map((element) =>
        vegaEmbed(element, charts[element.dataset.chart], {
          actions: false,
          renderer: "svg",
          tooltip: { theme: dark.matches ? "dark" : "light" },
          config: config(),
        }),
      ),
    );
    document.documentElement.dataset.drawn = drawn.length;
  };

  [dark, narrow].forEach((query) => query.addEventListener("change", draw));
  draw();
})();
