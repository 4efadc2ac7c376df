// Filter, sort and the theme switch.  Everything else on these pages works without this file.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("script");

  function remembered() {
    try { return localStorage.getItem("lab-theme"); } catch (error) { return null; }
  }
  function isDark() {
    var chosen = root.getAttribute("data-theme");
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }
  var theme = remembered();
  if (theme === "dark" || theme === "light") root.setAttribute("data-theme", theme);

  function themeButton() {
    var button = document.getElementById("theme");
    function show() { button.setAttribute("aria-pressed", String(isDark())); }
    button.addEventListener("click", function () {
      var next = isDark() ? "light" : "dark";
      root.setAttribute("data-theme", next);
      try { localStorage.setItem("lab-theme", next); } catch (error) { /* a file without storage: the choice lasts for this page */ }
      show();
    });
    show();
  }

  function filter(table) {
    var form = document.getElementById("filter");
    var rows = Array.prototype.slice.call(table.tBodies[0].rows);
    var text = document.getElementById("f-text"), topic = document.getElementById("f-topic");
    var part = document.getElementById("f-part"), verdict = document.getElementById("f-verdict");
    function apply() {
      var words = text.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
      rows.forEach(function (row) {
        var content = (row.textContent + " " + (row.dataset.words || "")).toLowerCase();
        var fits = words.every(function (word) { return content.indexOf(word) >= 0; }) &&
          (!topic.value || row.dataset.topic === topic.value) &&
          (!part.value || row.dataset.part.split(" ").indexOf(part.value) >= 0) &&
          (!verdict.value || row.dataset.verdict === verdict.value);
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      document.getElementById("f-count").textContent = shown + " of " + rows.length;
      document.getElementById("f-empty").hidden = shown > 0;
    }
    form.addEventListener("input", apply);
    form.addEventListener("change", apply);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("reset", function () { setTimeout(apply, 0); });
    apply();
  }

  function sorter(table) {
    var heads = Array.prototype.slice.call(table.tHead.querySelectorAll("th[data-sort]"));
    heads.forEach(function (head) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending", key = head.dataset.sort, body = table.tBodies[0];
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.prototype.slice.call(body.rows).sort(function (a, b) {
          var order = a.dataset[key].localeCompare(b.dataset[key], "en", { numeric: true });
          return (up ? 1 : -1) * (order || a.dataset.title.localeCompare(b.dataset.title));
        }).forEach(function (row) { body.appendChild(row); });
      });
    });
  }

  document.addEventListener("DOMContentLoaded", function () {
    themeButton();
    var table = document.getElementById("matrix");
    if (table) { filter(table); sorter(table); }
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (one) { one.dataset.printed = "1"; one.open = true; });
  });
  window.addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-printed]").forEach(function (one) { one.open = false; delete one.dataset.printed; });
  });
})();
