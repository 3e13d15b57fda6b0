<?php // Fetch URLs by the streams of PHP, one after the other: fetch.php URL...
foreach (array_slice($argv, 1) as $url) {
    file_get_contents($url);
}
