// @ts-check
// Where the page begins: the switch for light and dark, shortcuts, the link past the navigation, and the first view.

import { findElement } from "./dom.js";
import { startRouter } from "./router.js";
import { listenForShortcuts, showShortcuts } from "./shortcuts.js";
import { chosenTheme, showTheme, switchTheme } from "./theme.js";

const view = findElement("#view");
showTheme(chosenTheme());
findElement("#theme").addEventListener("click", switchTheme);
findElement("#shortcuts-button").addEventListener("click", showShortcuts);
listenForShortcuts();
findElement("[data-skip]").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the view's address
  view.focus();
});
startRouter(view);
