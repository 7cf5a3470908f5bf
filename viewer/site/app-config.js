// Configuration of stock OHIF for a reading session: the link's own DICOMweb, and two exams side by side.
//
// OHIF reads `window.config` once. The session is this tab's; without one there is nothing to show. Nor is there outside the page's
// frame: the page around it hears when something may not be shown any more, and takes the frame away.

(() => {
  localStorage.setItem('i18nextLng', 'en-US'); // OHIF knows no Italian; by itself it spoke whatever the browser does, a third language
  const session = JSON.parse(sessionStorage.getItem('contenitore.session') || 'null');
  if (!session || parent === window) {
    location.replace('/');
    return;
  }
  const root = `${session.api}/view/${session.pass}`;
  const list = name => (new URLSearchParams(location.search).get(name) || '').split(',').filter(Boolean);
  const images = list('images').map(path => path.split('/')).filter(uids => uids.length === 3 && uids.every(uid => /^[\d.]{1,64}$/.test(uid)));
  const chosen = images.map(([, , sop]) => sop);
  const inOrder = exams => (new URLSearchParams(location.search).has('swapped') ? [...exams].reverse() : exams);

  // What OHIF asks for first is asked for while its code is still on its way, in its own words, so that it takes these answers: each is
  // asked for, and recorded, once.
  const studies = `${root}/dicomweb/studies`;
  const first = images.flatMap(([study, series, sop]) => [
    `${studies}?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030&StudyInstanceUID=${study}`,
    `${studies}/${study}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011`,
    `${studies}/${study}/series/${series}/metadata`,
    `${root}/wado?requestType=WADO&studyUID=${study}&seriesUID=${series}&objectUID=${sop}&contentType=application/dicom&transferSyntax=*`,
  ]);
  for (const href of new Set(first)) document.head.append(Object.assign(document.createElement('link'), { rel: 'preload', as: 'fetch', crossOrigin: 'anonymous', href }));

  let ours = null; // page/in-ohif.js, which knows which windows and levels go together

  const synchronised = [
    { type: 'contenitoreLevels', id: 'contenitore.levels', source: true, target: true },
    { type: 'contenitoreWindow', id: 'contenitore.window', source: true, target: true },
    { type: 'contenitoreZoom', id: 'contenitore.zoom', source: true, target: true },
  ];
  const study = index => ({ attribute: 'studyInstanceUIDsIndex', from: 'options', required: true, constraint: { equals: { value: index } } });
  const withImages = [
    { attribute: 'numImageFrames', required: true, constraint: { greaterThan: { value: 0 } } },
    { attribute: 'Modality', weight: 10, constraint: { doesNotEqual: { value: 'SR' } } },
    { attribute: 'contenitoreLocalizer', weight: 100, constraint: { equals: { value: false } } },
    { attribute: 'contenitoreChosen', weight: 1000, constraint: { equals: { value: true } } },
  ];
  const viewport = (name, options) => ({
    viewportOptions: { viewportId: `contenitore-${name}`, viewportType: 'stack', toolGroupId: 'default', allowUnmatchedView: true, initialImageOptions: { custom: 'contenitoreImage', defaultValue: { preset: 'middle' } }, ...options },
    displaySets: [{ id: name }],
  });
  const upright = innerHeight > innerWidth; // the exams above each other
  const grid = (name, columns, viewports) => ({
    name,
    stageActivation: { enabled: { minViewportsMatched: 1 } },
    viewportStructure: { layoutType: 'grid', properties: { rows: viewports.length / columns, columns } },
    viewports,
  });
  const twoExams = { id: 'Two exams', weight: 2000, attribute: 'StudyInstanceUID', from: 'prior', required: true, constraint: { notNull: true } };
  const anyExam = { id: 'An exam', weight: 1, attribute: 'StudyInstanceUID', required: true, constraint: { notNull: true } };

  // Current left, prior right, unless the page has them swapped; zoom together, levels and windows where they mean the same.
  const compare = {
    id: 'contenitore.compare',
    name: 'Confronto / Comparison',
    numberOfPriorsReferenced: 1,
    protocolMatchingRules: [twoExams],
    toolGroupIds: ['default'],
    displaySetSelectors: {
      current: { studyMatchingRules: [study(0)], seriesMatchingRules: withImages },
      prior: { studyMatchingRules: [study(1)], seriesMatchingRules: withImages },
    },
    defaultViewport: { viewportOptions: { viewportType: 'stack', toolGroupId: 'default', allowUnmatchedView: true }, displaySets: [{ id: 'current', matchedDisplaySetsIndex: -1 }] },
    stages: [grid('current and prior', upright ? 1 : 2, inOrder([viewport('current', { syncGroups: synchronised }), viewport('prior', { syncGroups: synchronised })]))],
  };

  // One exam alone: its images, whatever documents its series begin with.
  const alone = {
    ...compare,
    id: 'contenitore.alone',
    name: 'Un esame / One exam',
    numberOfPriorsReferenced: 0,
    protocolMatchingRules: [anyExam],
    displaySetSelectors: { current: compare.displaySetSelectors.current },
    stages: [grid('current', 1, [viewport('current')])],
  };

  // A mammography as it is hung: the image's right side beside its left, walls towards each other, CC above MLO; of two exams both
  // so, and after that (OHIF's next stage) each view beside its like. Where a view was not taken its place stays empty.
  const SIDES = ['R', 'L'];
  const VIEWS = ['CC', 'MLO'];
  const wall = side => ({ imageArea: [1, 1], imageCanvasPoint: side === 'R' ? { imagePoint: [1, 0.5], canvasPoint: [1, 0.5] } : { imagePoint: [0, 0.5], canvasPoint: [0, 0.5] } });
  const breast = (exam, side, view, options) => viewport(`${exam}-${side}${view}`, { allowUnmatchedView: false, syncGroups: [{ type: 'zoompan', id: `contenitore.zoom.${side}${view}`, source: true, target: true }], ...options });
  const mammography = (id, exams, rules) => ({
    id,
    name: 'Mammografia / Mammography',
    numberOfPriorsReferenced: exams.length - 1,
    protocolMatchingRules: rules,
    toolGroupIds: ['default'],
    displaySetSelectors: Object.fromEntries(exams.flatMap((exam, index) => SIDES.flatMap(side => VIEWS.map(view => [`${exam}-${side}${view}`, {
      studyMatchingRules: [study(index)],
      seriesMatchingRules: [{ attribute: 'contenitoreView', required: true, constraint: { equals: { value: `${side} ${view}` } } }, ...withImages],
    }])))),
    defaultViewport: { viewportOptions: compare.defaultViewport.viewportOptions, displaySets: [{ id: `${exams[0]}-RCC`, matchedDisplaySetsIndex: -1 }] },
    stages: [
      upright
        ? grid('all views', 2, inOrder(exams).flatMap(exam => VIEWS.flatMap(view => SIDES.map(side => breast(exam, side, view, { displayArea: wall(side) })))))
        : grid('all views', 2 * exams.length, VIEWS.flatMap(view => inOrder(exams).flatMap(exam => SIDES.map(side => breast(exam, side, view, { displayArea: wall(side) }))))),
      ...(exams.length > 1 ? VIEWS.flatMap(view => SIDES.map(side => grid(`${side} ${view}`, upright ? 1 : 2, inOrder(exams).map(exam => breast(exam, side, view))))) : []),
    ],
  });
  const protocols = [compare, alone, mammography('contenitore.mammographies', ['current', 'prior'], [twoExams]), mammography('contenitore.mammography', ['current'], [anyExam])];

  // Nothing can be stored here: no tracking that ends in a report, no segmentations, no button that offers either; what is measured
  // has a list of our own. The first button of an id is the one that counts.
  const readOnly = {
    routes: { 0: { layoutInstance: { props: {
      leftPanels: { $set: ['@ohif/extension-default.panelModule.seriesList'] },
      rightPanels: { $set: ['contenitore.panelModule.measurements'] },
      viewports: { 0: { namespace: { $set: '@ohif/extension-cornerstone.viewportModule.cornerstone' } } },
    } } } },
    toolbarButtons: { $unshift: [{
      id: 'ImageSliceSync',
      uiType: 'ohif.toolButton',
      props: { icon: 'link', label: 'Livelli insieme / Levels together', tooltip: 'Livelli insieme / Levels together', commands: 'contenitoreToggleLevels', evaluate: args => ours.levelsButton(args) },
    }] },
  };

  for (const act of ['pointerdown', 'keydown', 'wheel']) {
    document.addEventListener(act, () => parent.postMessage('contenitore:alive', location.origin), { passive: true, capture: true });
  }

  addEventListener('unhandledrejection', event => ours?.keepToOurWords(event)); // before OHIF's own, which a window hears in order

  window.config = {
    name: 'contenitore',
    routerBasename: '/',
    extensions: [{
      id: 'contenitore',
      preRegistration: async () => {
        ours = await import('/page/in-ohif.js');
        await ours.prepare();
      },
      onModeEnter: services => ours.join(services, { root, chosen }),
      getPanelModule: services => ours.measurementsPanel(services),
      getHangingProtocolModule: () => protocols.map(protocol => ({ name: protocol.id, protocol })),
    }],
    modes: [],
    modesConfiguration: { '@ohif/mode-longitudinal': readOnly },
    customizationService: [{ 'ohif.tours': { $set: [] } }],
    httpErrorHandler: error => console.warn(`The archive answered ${error?.status ?? error?.request?.status ?? 'nothing'}.`),
    showStudyList: false,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showErrorDetails: 'production',
    showLoadingIndicator: true,
    investigationalUseDialog: { option: 'never' },
    maxNumberOfWebWorkers: Math.min(4, navigator.hardwareConcurrency || 2),
    maxNumRequests: { interaction: 100, thumbnail: 8, prefetch: 20 },
    defaultDataSourceName: 'contenitore',
    dataSources: [{
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'contenitore',
      configuration: {
        friendlyName: 'Contenitore',
        name: 'contenitore',
        qidoRoot: `${root}/dicomweb`,
        wadoRoot: `${root}/dicomweb`,
        wadoUriRoot: `${root}/wado`,
        qidoSupportsIncludeField: true,
        imageRendering: 'wadouri',
        thumbnailRendering: 'thumbnailDirect',
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: false,
        supportsReject: false,
        singlepart: 'bulkdata,pdf,video',
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
        omitQuotationForMultipartRequest: true,
      },
    }],
  };
})();
