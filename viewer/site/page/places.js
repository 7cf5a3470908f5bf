// Places and kinds as a reader calls them.

export const PLACES = {
  it: {
    'whole-body': 'corpo intero', head: 'capo', orbits: 'orbite', 'temporal-bone': 'rocche', face: 'massiccio facciale', sinuses: 'seni paranasali', nose: 'naso', mandible: 'mandibola', teeth: 'denti', tmj: 'ATM',
    neck: 'collo', salivary: 'salivari', chest: 'torace', heart: 'cuore', esophagus: 'esofago', breast: 'mammella', axilla: 'ascella', aorta: 'aorta', abdomen: 'addome', pelvis: 'pelvi', groin: 'inguine',
    spine: 'colonna', 'cervical-spine': 'rachide cervicale', 'thoracic-spine': 'rachide dorsale', 'lumbar-spine': 'rachide lombare', sacrum: 'sacro', 'upper-limb': 'arto superiore', shoulder: 'spalla', clavicle: 'clavicola',
    'upper-arm': 'braccio', elbow: 'gomito', forearm: 'avambraccio', wrist: 'polso', hand: 'mano', 'lower-limb': 'arto inferiore', hip: 'anca', femur: 'femore', knee: 'ginocchio', leg: 'gamba', ankle: 'caviglia', foot: 'piede',
  },
  en: { 'whole-body': 'whole body', 'temporal-bone': 'temporal bone', tmj: 'TMJ', 'cervical-spine': 'cervical spine', 'thoracic-spine': 'thoracic spine', 'lumbar-spine': 'lumbar spine', 'upper-limb': 'upper limb', 'upper-arm': 'upper arm', 'lower-limb': 'lower limb' },
};
export const KINDS = {
  it: { radiography: 'RX', ct: 'TC', mr: 'RM', ultrasound: 'ECO', pet: 'PET', nuclear: 'MN', mammography: 'MX', angiography: 'ANGIO', densitometry: 'MOC' },
  en: { radiography: 'XR', ct: 'CT', mr: 'MR', ultrasound: 'US', pet: 'PET', nuclear: 'NM', mammography: 'MG', angiography: 'XA', densitometry: 'DXA' },
};

/** What a course is called: its kind and its region; what its newest exam is called, where nobody understood it. */
export function courseName({ newest }, language) {
  const { kinds, regions } = newest.course ?? { kinds: [], regions: [] };
  if (!regions.length) return newest.description || newest.modalities.join(' ');
  return [kinds.map(kind => KINDS[language][kind] ?? kind).join('/'), regions.map(place => PLACES[language][place] ?? place).join(', ')].filter(Boolean).join(' ');
}
