namespace GpuTasks.Demo;

/// <summary>A spoken recording whose file name says what is spoken, such as <c>Front_Left.wav</c>.</summary>
internal sealed record Recording(string Path)
{
    /// <summary>File name.</summary>
    public string FileName => System.IO.Path.GetFileName(Path);

    /// <summary>What is spoken in it.</summary>
    public string Spoken => System.IO.Path.GetFileNameWithoutExtension(Path).Replace('_', ' ').ToLowerInvariant();

    /// <summary>The recordings of a folder. <c>Noise.wav</c>, which lies beside them, is not speech.</summary>
    public static IReadOnlyList<Recording> FindIn(string folder) => Directory.Exists(folder)
        ? [.. Directory.EnumerateFiles(folder, "*_*.wav").Order(StringComparer.Ordinal).Select(path => new Recording(path))]
        : [];
}
