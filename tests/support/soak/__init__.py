"""Many rounds, and deaths at random moments: every hook that is due must be delivered, whoever dies, and nothing lost.

``drawing`` draws ``moves``, ``caller`` makes them as a kubelet would and tells a ``story``, ``keeper`` kills and starts
hookshim and containerd, ``death`` ends containers, ``witness`` knows what the hooks' receivers saw, ``truth`` what
containerd says, ``memory`` what the journal does. ``calls`` knows of every call how long it took, and when one hangs
``evidence`` is collected (``system``, ``goroutines``, ``shown``); ``loss`` knows why one may at containerd.
``verdict`` judges each hook and ``aftermath`` the end; ``tally`` makes ``figures`` of it; ``company`` and ``run`` join
them.
"""
