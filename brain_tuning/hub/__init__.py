"""Publishing on the Hugging Face Hub: check a folder, push it, pull it, write its card, gather repositories.

``layout.check_layout``, ``push.push``, ``pull.pull``, ``cards.render_model_card`` and
``collections.add_to_collection`` are the ways in.
"""
