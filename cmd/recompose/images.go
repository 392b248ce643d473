package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
)

func imagesCommand() *cobra.Command {
	var l listFlags
	var want events.ListImages
	s, _ := sendableOf(events.FnListImages)
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List the gold and private images of the service",
		Long: `List the images that desktops can be rebuilt from: gold (public) and private ones. The service does not list
market images. A worker reads the list (the function listimages); it changes nothing.

Exit codes: 0 listed, 1 failed, 2 nothing was sent, 3 the end is not known.`,
		Example: `  recompose images
  recompose images --type private --name office-2026-02 --ids
  recompose images --csv --aws recompose > images.csv`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"", "gold", "private"}, want.ImageType) {
				return wrongUse(fmt.Errorf("--type: must be gold or private; the service lists no others; got %q", want.ImageType))
			}
			if err := s.checked(cmd, want); err != nil {
				return err
			}
			pages, err := list[events.ImagesListed](&l, cmd, s.Function, events.TypeImagesListed, want)
			if err != nil {
				return err
			}
			var rows []events.ListedImage
			for _, p := range pages {
				rows = append(rows, p.Images...)
			}
			return l.printImages(cmd, rows)
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&want.ImageType, "type", "", "gold (public) or private")
	flags.StringVar(&want.Name, "name", "", "the image with this whole name")
	flags.StringVar(&want.ImageID, "image-id", "", "the image with this id")
	l.define(cmd)
	return cmd
}

var imageColumns = []column[events.ListedImage]{
	{name: "id", of: func(i events.ListedImage) string { return i.ID }},
	{name: "name", of: func(i events.ListedImage) string { return i.Name }},
	{name: "image_type", of: func(i events.ListedImage) string { return i.ImageType }},
	{name: "os_type", of: func(i events.ListedImage) string { return i.OSType }},
	{name: "os_version", of: func(i events.ListedImage) string { return i.OSVersion }},
	{name: "architecture", of: func(i events.ListedImage) string { return i.Architecture }},
	{name: "min_ram", of: func(i events.ListedImage) string { return numberText(i.MinRAM) }},
	{name: "min_disk", of: func(i events.ListedImage) string { return numberText(i.MinDisk) }},
	{name: "created_at", of: func(i events.ListedImage) string { return i.CreatedAt }},
}

func (l *listFlags) printImages(cmd *cobra.Command, rows []events.ListedImage) error {
	out := cmd.OutOrStdout()
	switch {
	case l.ids:
		for _, i := range rows {
			printLine(out, "%s", escape(i.ID))
		}
		return nil
	case l.json:
		for _, i := range rows {
			if err := printJSON(out, i); err != nil {
				return err
			}
		}
		return nil
	case l.csv:
		return printCSV(cmd, imageColumns, rows, false)
	}
	var table [][]string
	for _, i := range rows {
		table = append(table, []string{i.ID, i.Name, i.ImageType, i.OSType, i.OSVersion, i.CreatedAt})
	}
	if len(rows) > 0 {
		printTable(cmd, []string{"IMAGE", "NAME", "TYPE", "OS", "VERSION", "CREATED"}, table)
		printLine(out, "")
	}
	printLine(out, "%s", chain.Count(len(rows), "image"))
	return nil
}

func numberText(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}
