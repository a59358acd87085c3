// A table that scrolls in itself can be scrolled with the keyboard too.
const scrolls = new ResizeObserver((tables) => {
  for (const { target } of tables) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document$.subscribe(() => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) scrolls.observe(table);
});
