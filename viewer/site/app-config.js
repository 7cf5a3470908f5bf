// Configuration of stock OHIF for a reading session: the link's own DICOMweb, and two exams side by side.
//
// OHIF reads `window.config` once. The session is this tab's; without one there is nothing to show. Nor is there outside the page's
// frame: the page around it hears when something may not be shown any more, and takes the frame away.

(() => {
  const session = JSON.parse(sessionStorage.getItem('contenitore.session') || 'null');
  if (!session || parent === window) {
    location.replace('/');
    return;
  }
  const root = `${session.api}/view/${session.pass}`;
  const wanted = (new URLSearchParams(location.search).get('StudyInstanceUIDs') || '').split(',').filter(Boolean);

  const synchronised = [
    { type: 'imageSlice', id: 'contenitore.slice', source: true, target: true },
    { type: 'voi', id: 'contenitore.window', source: true, target: true, options: { syncColormap: true } },
    { type: 'zoompan', id: 'contenitore.zoom', source: true, target: true },
  ];
  const study = index => ({ attribute: 'studyInstanceUIDsIndex', from: 'options', required: true, constraint: { equals: { value: index } } });
  const images = [
    { attribute: 'numImageFrames', required: true, constraint: { greaterThan: { value: 0 } } },
    { attribute: 'Modality', weight: 10, constraint: { doesNotEqual: { value: 'SR' } } },
  ];
  const viewport = (name, selector) => ({
    viewportOptions: { viewportId: `contenitore-${name}`, viewportType: 'stack', toolGroupId: 'default', allowUnmatchedView: true, initialImageOptions: { preset: 'middle' }, syncGroups: synchronised },
    displaySets: [{ id: selector }],
  });

  // Current left, prior right, window, zoom and slice together; also across hospitals, whose Frames of Reference differ.
  const compare = {
    id: 'contenitore.compare',
    name: 'Confronto / Comparison',
    numberOfPriorsReferenced: 1,
    protocolMatchingRules: [{ id: 'Two exams', weight: 2000, attribute: 'StudyInstanceUID', from: 'prior', required: true, constraint: { notNull: true } }],
    toolGroupIds: ['default'],
    displaySetSelectors: {
      current: { studyMatchingRules: [study(0)], seriesMatchingRules: images },
      prior: { studyMatchingRules: [study(1)], seriesMatchingRules: images },
    },
    defaultViewport: { viewportOptions: { viewportType: 'stack', toolGroupId: 'default', allowUnmatchedView: true }, displaySets: [{ id: 'current', matchedDisplaySetsIndex: -1 }] },
    stages: [{
      name: 'current and prior',
      stageActivation: { enabled: { minViewportsMatched: 1 } },
      viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 2 } },
      viewports: [viewport('current', 'current'), viewport('prior', 'prior')],
    }],
  };

  /** Two stacks of different Frames of Reference: as if their middles were the same place, so that slices go together. */
  function register() {
    const { cornerstone } = window;
    const viewports = ['contenitore-current', 'contenitore-prior'].map(id => cornerstone.getRenderingEngines().map(engine => engine.getViewport(id)).find(Boolean));
    if (viewports.some(one => !one?.getImageIds?.().length)) return;
    const middles = viewports.map(one => {
      const ids = one.getImageIds();
      return cornerstone.metaData.get('imagePlaneModule', ids[Math.floor(ids.length / 2)]);
    });
    if (middles.some(plane => !plane?.imagePositionPatient)) return;
    if (middles[0].frameOfReferenceUID && middles[0].frameOfReferenceUID === middles[1].frameOfReferenceUID) return;
    const [from, to] = middles.map(plane => [...plane.imagePositionPatient]);
    const translation = (a, b) => [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, b[0] - a[0], b[1] - a[1], b[2] - a[2], 1];
    const provider = cornerstone.utilities.spatialRegistrationMetadataProvider;
    provider.add([viewports[1].id, viewports[0].id], translation(from, to));
    provider.add([viewports[0].id, viewports[1].id], translation(to, from));
  }

  /** Tell the page around the frame when every wanted exam shows an image. */
  const shown = new Set();
  let told = false;
  function tell() {
    if (told) return;
    told = true;
    performance.mark('contenitore:shown');
    parent.postMessage('contenitore:shown', location.origin);
  }
  document.addEventListener('CORNERSTONE_IMAGE_RENDERED', event => {
    const { viewportId, renderingEngineId } = event.detail;
    const viewport = window.cornerstone?.getRenderingEngine(renderingEngineId)?.getViewport(viewportId);
    if (!viewport?.getImageData?.()) return;
    if (!shown.has(viewportId)) {
      shown.add(viewportId);
      register();
    }
    if (shown.size >= wanted.length) tell();
  }, true);
  setTimeout(tell, 20000);
  for (const act of ['pointerdown', 'keydown', 'wheel']) {
    document.addEventListener(act, () => parent.postMessage('contenitore:alive', location.origin), { passive: true, capture: true });
  }

  window.config = {
    name: 'contenitore',
    routerBasename: '/',
    extensions: [{ id: 'contenitore', getHangingProtocolModule: () => [{ name: compare.id, protocol: compare }] }],
    modes: [],
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
