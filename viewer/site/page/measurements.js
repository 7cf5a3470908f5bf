// Inside OHIF: what was measured in this reading, in a panel of its own. Stock OHIF's panel ends in "Create SR", and nothing can be
// stored here: these are gone with the reading, which the panel says.

import { fill, h } from './dom.js';
import { t } from './text.js';

/** What React 18 takes for an element: OHIF hands out neither React nor an element of its own. */
const element = (type, props, ref) => ({ $$typeof: Symbol.for('react.element'), type, key: null, ref, props, _owner: null });

/** The panel, as OHIF's modules have one. */
export const measurementsPanel = ({ servicesManager }) => [{
  name: 'measurements',
  iconName: 'tab-linear',
  iconLabel: t('measurements'),
  label: t('measurements'),
  component: panelOf(servicesManager.services),
}];

function panelOf({ measurementService, viewportGridService }) {
  let place = null;
  const draw = () => place && drawList(place, measurementService, viewportGridService);
  for (const event of Object.values(measurementService.EVENTS)) measurementService.subscribe(event, draw);
  const put = found => {
    place = found;
    draw();
  };
  return () => element('div', { className: 'contenitore-measurements text-foreground h-full overflow-y-auto p-2 text-sm' }, put);
}

function drawList(place, measurementService, viewportGridService) {
  const found = measurementService.getMeasurements();
  fill(place,
    h('p.mb-2', {}, () => t(found.length ? 'measurementsKept' : 'measurementsNone')),
    h('ul', { role: 'list', 'aria-label': () => t('measurements') }, found.map(measurement => {
      const name = [measurement.label || measurement.toolName, ...measurement.displayText?.primary ?? []].map(value => String(value)).join(' ');
      return h('li.mb-1.flex.items-center.gap-1', {},
        h('button.flex-1.text-left.underline', { type: 'button', onclick: () => goTo(measurement, measurementService, viewportGridService) }, name),
        h('button.px-1', { type: 'button', 'aria-label': () => t('measurementRemove', { name }), title: () => t('measurementRemove', { name }), onclick: () => measurementService.remove(measurement.uid) }, '✕'));
    })));
}

/** To a measurement, in the viewport that shows its images, so that both exams stay where they are. */
function goTo({ uid, displaySetInstanceUID }, measurementService, viewportGridService) {
  const { viewports, activeViewportId } = viewportGridService.getState();
  const shows = [...viewports.values()].find(viewport => viewport.displaySetInstanceUIDs?.includes(displaySetInstanceUID));
  measurementService.jumpToMeasurement(shows?.viewportId ?? activeViewportId, uid);
}
