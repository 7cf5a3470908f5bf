// PDFs in windows of their own: they stand beside the images of their exam, and go with it, and with their report.

import { keyOf } from './timeline.js';

/** The windows that are open, each with its exam's key and its report as it was then. */
let opened = [];

/** A report's PDF in a window, under an address that says nothing and is good for a minute. */
export function openPdf(study, report, content) {
  const address = URL.createObjectURL(content);
  const view = window.open(address, '_blank');
  if (view) opened.push({ exam: keyOf(study), report, view });
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** Close the windows but those of reports of these exams that stand as they did, or are the old versions that they were: what another
 *  patient's report says, or one that was replaced or withdrawn, does not stand beside the images. How many of those were closed. */
export function keepPdfs(studies) {
  let changed = 0;
  opened = opened.filter(({ exam, report, view }) => {
    if (view.closed) return false;
    const study = studies.find(each => keyOf(each) === exam);
    const now = study?.reports.find(each => each.sop_instance_uid === report.sop_instance_uid);
    if (now && now.newest === report.newest) return true;
    view.close();
    changed += study ? 1 : 0;
    return false;
  });
  return changed;
}
