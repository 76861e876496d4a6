using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Storage;

/// <summary>
/// One numbered step of the schema. Text before the first line <c>-- @query NAME</c> is run; each text after such a line
/// becomes the Orleans query of that name.
/// </summary>
internal sealed record StoreScript(int Number, string Name, string Sql, IReadOnlyDictionary<string, string> Queries, string Checksum)
{
    private const string Marker = "-- @query ";

    /// <summary>Steps for one kind of database, in order, as shipped inside this assembly.</summary>
    public static IReadOnlyList<StoreScript> For(StoreProvider provider)
    {
        var assembly = typeof(StoreScript).Assembly;
        var folder = $"Scripts/{provider}/";
        var scripts = new List<StoreScript>();
        foreach (var resource in assembly.GetManifestResourceNames().Where(n => n.StartsWith(folder, StringComparison.Ordinal)))
        {
            using var stream = assembly.GetManifestResourceStream(resource)!;
            using var reader = new StreamReader(stream, Encoding.UTF8);
            scripts.Add(Parse(resource[folder.Length..], reader.ReadToEnd()));
        }

        return [.. scripts.OrderBy(s => s.Number)];
    }

    /// <param name="fileName">Four digits, an underscore, a name, <c>.sql</c>.</param>
    /// <param name="text">The script.</param>
    public static StoreScript Parse(string fileName, string text)
    {
        var number = int.Parse(fileName.AsSpan(0, 4), NumberStyles.None, CultureInfo.InvariantCulture);
        // A checkout may have changed line ends; that is not another script.
        text = text.ReplaceLineEndings("\n");
        var parts = ("\n" + text).Split("\n" + Marker);
        var queries = parts.Skip(1).Select(p => p.Split('\n', 2)).ToDictionary(p => p[0].Trim(), p => p[1].Trim(), StringComparer.Ordinal);
        return new StoreScript(number, fileName, parts[0].Trim(), queries, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text))));
    }
}
