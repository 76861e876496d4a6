using System.Text;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>Names that become parts of grain keys and addresses.</summary>
internal static class Names
{
    public const string Latest = "LATEST";
    public const string FunctionRule = "must be 1 to 128 letters, digits, '_' or '-', not starting with a digit or '-'";
    public const string TaskIdRule = "must be 1 to 128 letters, digits, '_' or '-', starting with a letter or '_'";

    /// <summary>The rule of functions and of task ids is the same (contract 1.3, 1.4).</summary>
    public static bool IsName(string text) =>
        text.Length is > 0 and <= 128 && (char.IsAsciiLetter(text[0]) || text[0] == '_')
        && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-');

    public static string CheckFunction(string field, string name) =>
        IsName(name) ? name : throw ApiErrors.InvalidArgument($"{field}: {FunctionRule}, was '{Shown(name)}'.");

    public static string CheckTaskId(string field, string id) =>
        IsName(id) ? id : throw ApiErrors.InvalidArgument($"{field}: {TaskIdRule}, was '{Shown(id)}'.");

    /// <summary>A qualifier that may exist: LATEST, a version's number or an alias.</summary>
    public static string CheckQualifier(string? qualifier) =>
        qualifier is null ? Latest : IsVersion(qualifier) || IsName(qualifier) ? qualifier : throw ApiErrors.QualifierNotFound(qualifier);

    /// <summary>The number of a version, in its one form.</summary>
    public static bool IsVersion(string text) => text.Length is > 0 and <= 9 && text[0] is >= '1' and <= '9' && text.All(char.IsAsciiDigit);

    /// <summary>A caller's text, short and printable enough to be shown back.</summary>
    public static string Shown(string text)
    {
        var shown = new StringBuilder();
        foreach (var rune in text.EnumerateRunes())
        {
            if (shown.Length >= 64)
            {
                return shown.Append("...").ToString();
            }

            shown.Append(Rune.IsControl(rune) ? "?" : rune.ToString());
        }

        return shown.ToString();
    }
}
