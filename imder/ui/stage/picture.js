// The stage as one PNG: its cards, canvases and words where they stand, drawn anew. Controls are left out.
(name) => {
  const root = document.getElementById(name);
  const [frame, dense] = [root.getBoundingClientRect(), 2];
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(frame.width * dense);
  canvas.height = Math.round(frame.height * dense);
  const c = canvas.getContext("2d");
  c.scale(dense, dense);
  const place = (box) => [box.left - frame.left, box.top - frame.top, box.width, box.height];
  const shown = (node) => node.checkVisibility();
  const paper = getComputedStyle(root.closest("gradio-app") ?? document.body).backgroundColor;
  c.fillStyle = paper === "rgba(0, 0, 0, 0)" ? "#ffffff" : paper;
  c.fillRect(0, 0, frame.width, frame.height);
  for (const card of root.querySelectorAll(".card, .portrait, .chips li")) {
    if (!shown(card)) continue;
    const style = getComputedStyle(card);
    c.fillStyle = style.backgroundColor;
    c.strokeStyle = style.borderTopColor;
    c.beginPath();
    c.roundRect(...place(card.getBoundingClientRect()), card.matches("li") ? 14 : 8);
    c.fill();
    if (parseFloat(style.borderTopWidth)) c.stroke();
  }
  for (const drawn of root.querySelectorAll("canvas")) {
    if (shown(drawn) && drawn.width && drawn.height) c.drawImage(drawn, ...place(drawn.getBoundingClientRect()));
  }
  for (const path of root.querySelectorAll(".scale-names path")) {
    const [x, y, width] = place(path.ownerSVGElement.getBoundingClientRect());
    c.save();
    c.translate(x, y);
    c.scale(width / 16, width / 16);
    c.fillStyle = getComputedStyle(path).fill;
    c.fill(new Path2D(path.getAttribute("d")));
    c.restore();
  }
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  c.textBaseline = "middle";
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || !shown(parent) || parent.closest("button, select, label, output, .tip")) continue;
    const style = getComputedStyle(parent);
    c.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    c.fillStyle = style.color;
    for (const word of node.data.matchAll(/\S+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const [x, y, , height] = place(range.getBoundingClientRect());
      c.fillText(word[0], x, y + height / 2);
    }
  }
  const link = document.createElement("a");
  link.download = "imder-picture.png";
  link.href = canvas.toDataURL("image/png");
  link.click();
  return "<p>The picture was made of what the stage shows now.</p>";
}
