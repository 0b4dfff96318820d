// What is watched: a drawn scene, the camera, or a video file. A source gives its newest picture
// when the model is ready for one, so that nothing is ever delayed.

import { Scene } from "./scene.js";

const WIDEST = 1920; // larger videos are taken at this width

export class SceneSource {
  scene = new Scene();
  draggable = true;
  hint = "Drag the shapes, also behind one another. Keys: n takes the next, arrows move it.";

  async open() {}

  grab() {
    this.scene.draw(performance.now());
    return createImageBitmap(this.scene.canvas);
  }

  pause() {}
  resume() {}
  close() {}
}

class VideoSource {
  draggable = false;
  video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  onLost = () => {}; // called with a sentence when no more pictures come
  #fresh = false; // whether there is a picture that was not grabbed yet
  #closed = false;

  async play() {
    await this.video.play();
    const follow = () => {
      this.#fresh = true;
      if (!this.#closed) this.#await(follow);
    };
    this.#await(follow);
  }

  #await(follow) {
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(follow);
    else requestAnimationFrame(follow);
  }

  /** The newest picture, or null if there is none that was not grabbed before. */
  grab() {
    const { videoWidth, videoHeight } = this.video;
    if (!this.#fresh || !videoWidth) return null;
    this.#fresh = false;
    if (videoWidth <= WIDEST) return createImageBitmap(this.video);
    return createImageBitmap(this.video, {
      resizeWidth: WIDEST,
      resizeHeight: Math.round((videoHeight * WIDEST) / videoWidth),
      resizeQuality: "high",
    });
  }

  pause() {
    this.video.pause();
  }

  resume() {
    return this.video.play();
  }

  close() {
    this.#closed = true;
    this.video.pause();
  }
}

export class CameraSource extends VideoSource {
  hint = "Your camera. The pictures stay in this page.";

  async open() {
    if (!navigator.mediaDevices) {
      throw new Error("The browser opens a camera only over HTTPS or on localhost.");
    }
    const wanted = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    try {
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted });
    } catch (error) {
      const sentences = {
        NotAllowedError: "The camera was not allowed. Allow it in the browser's address bar.",
        NotFoundError: "This machine has no camera.",
        NotReadableError: "The camera is in use by another program.",
      };
      throw new Error(sentences[error.name] ?? `The camera does not open: ${error.message}`);
    }
    for (const track of this.video.srcObject.getTracks()) {
      track.onended = () => this.onLost("The camera has gone.");
    }
    await this.play();
  }

  close() {
    super.close();
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
  }
}

export class FileSource extends VideoSource {
  /** @param {File} file
   *  @param {() => void} onRestart called when the video has ended and begins again */
  constructor(file, onRestart) {
    super();
    this.file = file;
    this.hint = `${file.name}. At its end it begins again.`;
    this.onRestart = onRestart;
  }

  async open() {
    this.video.src = URL.createObjectURL(this.file);
    this.video.onended = () => {
      this.onRestart();
      this.video.play();
    };
    try {
      await this.play();
    } catch {
      throw new Error(`This browser cannot play ${this.file.name}: choose an MP4 or WebM file.`);
    }
  }

  close() {
    super.close();
    this.video.onended = null;
    URL.revokeObjectURL(this.video.src);
  }
}
