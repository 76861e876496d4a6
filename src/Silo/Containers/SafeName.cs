namespace GpuTasks.Nodes;

/// <summary>Names that become file names and container names must not be able to mean anything else.</summary>
internal static class SafeName
{
    /// <summary>True for letters, digits, <c>_</c>, <c>-</c>, <c>.</c>, not starting with <c>.</c> or <c>-</c>.</summary>
    public static bool IsValid(string? name, int maxLength)
    {
        if (string.IsNullOrEmpty(name) || name.Length > maxLength || name[0] is '.' or '-')
        {
            return false;
        }

        foreach (var c in name)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('_' or '-' or '.'))
            {
                return false;
            }
        }

        return true;
    }
}
