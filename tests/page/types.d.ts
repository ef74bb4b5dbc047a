/** A torrent of the event stream: the list's fields of `torrent_get`, and the state that the page derives. */
interface Torrent {
  id: number;
  hash_string: string;
  name: string;
  status: number;
  error: number;
  error_string: string;
  btsync_problem: 'none' | 'tracker_warning' | 'tracker_error' | 'local' | 'files_in_the_way';
  labels: string[];
  queue_position: number;
  total_size: number;
  size_when_done: number;
  left_until_done: number;
  have_valid: number;
  have_unchecked: number;
  percent_done: number;
  metadata_percent_complete: number;
  recheck_progress: number;
  rate_download: number;
  rate_upload: number;
  downloaded_ever: number;
  uploaded_ever: number;
  upload_ratio: number;
  eta: number;
  peers_connected: number;
  peers_sending_to_us: number;
  peers_getting_from_us: number;
  added_date: number;
  done_date: number;
  activity_date: number;
  download_dir: string;
  is_finished: boolean;
  is_stalled: boolean;
  is_private: boolean;
  file_count: number;
  piece_count: number;
  state: string;
}
