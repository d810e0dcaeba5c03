"use strict";
// The direction of a box follows what is written. A word that is pointed at or reached by the keyboard lights the words of the other row by their weights.
(() => {
  const light = (word) => {
    const box = word.closest(".lk-attention");
    const row = word.parentElement;
    const weights = word.dataset.weights.split(" ").map(Number);
    const seen = [];
    for (const other of box.querySelectorAll(".lk-word")) {
      other.toggleAttribute("data-on", other === word);
      other.style.setProperty("--w", "0");
    }
    const others = [...box.querySelectorAll(".lk-words")].find((one) => one !== row).children;
    weights.forEach((weight, place) => {
      others[place].style.setProperty("--w", String(Math.min(1, weight)));
      seen.push([weight, others[place].textContent]);
    });
    seen.sort((a, b) => b[0] - a[0]);
    const listed = seen.filter((one) => one[0] >= 0.05).slice(0, 3).map(([weight, text]) => `${text} ${Math.round(100 * weight)} %`);
    const verb = row.dataset.kind === "looks" ? "looked at" : "was seen by";
    box.querySelector(".lk-note").textContent = `“${word.textContent}” ${verb}: ${listed.join(", ") || "no word in particular"}`;
  };
  document.addEventListener("input", (at) => {
    if (at.target.matches("textarea, input[type=text]")) at.target.dir = "auto";
  });
  for (const event of ["pointerover", "focusin", "click"]) {
    document.addEventListener(event, (at) => {
      const word = at.target instanceof Element && at.target.closest(".lk-word");
      if (word) light(word);
    });
  }
})();
