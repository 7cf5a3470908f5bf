// PDFs in windows of their own: they stand beside the images of their exam, and go with it.

/** The windows that are open, each with the key of its exam. */
let opened = [];

/** A PDF in a window, under an address that says nothing and is good for a minute. */
export function openPdf(exam, content) {
  const address = URL.createObjectURL(content);
  const view = window.open(address, '_blank');
  if (view) opened.push({ exam, view });
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** Close the windows of all exams but these: what another patient's report says does not stand beside the images. */
export function keepPdfs(exams) {
  for (const { exam, view } of opened) if (!exams.includes(exam)) view.close();
  opened = opened.filter(({ exam, view }) => exams.includes(exam) && !view.closed);
}
