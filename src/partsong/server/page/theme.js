// @ts-check
// Light or dark: as the system has it, unless the switch says otherwise. Runs before the first paint.

const CHOICES = ["auto", "light", "dark"];

export function chosenTheme() {
  const stored = localStorage.getItem("theme");
  return stored !== null && CHOICES.includes(stored) ? stored : "auto";
}

/** @param {string} choice */
export function showTheme(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  const button = document.getElementById("theme");
  if (button) button.textContent = `Theme: ${choice}`;
}

export function switchTheme() {
  const next = CHOICES[(CHOICES.indexOf(chosenTheme()) + 1) % CHOICES.length];
  localStorage.setItem("theme", next);
  showTheme(next);
}

showTheme(chosenTheme());
